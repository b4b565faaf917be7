package dev.toolkit.trainer.store

import android.app.NotificationManager
import dev.toolkit.trainer.R
import dev.toolkit.trainer.TrainerApp
import dev.toolkit.trainer.Words
import java.io.File

/** What this app keeps, all together: runs, models, training data, and what is cached of them. */
class Everything(private val app: TrainerApp) {
    /** How much there is of what; [bytes] of storage in all. */
    class Kept(val runs: Int, val models: Int, val data: Int, val bytes: Long) {
        val isNothing get() = runs == 0 && models == 0 && data == 0 && bytes == 0L
    }

    fun count(): Kept {
        fun folders(kind: String) = roots().flatMap { File(it, kind).listFiles().orEmpty().toList() }.filter { Names.isValid(it.name) }
        val bytes = places().sumOf { place -> place.files().sumOf(File::length) }
        return Kept(folders("runs").size, folders("bundles").size, folders("data").size, bytes)
    }

    /**
     * Deletes it. The settings stay; so does what a computer put outside of the app's own folders.
     *
     * @throws AppException a run is active, the model is being asked or tried, or something is being imported or made
     */
    fun delete() {
        if (app.importing.isBusy || app.makingText != null) throw AppException(Words.of(R.string.wipe_busy))
        // Nobody begins a run meanwhile: it would wait for the engine, and then find nothing.
        app.controller.alone {
            places().forEach(File::deleteTree)
            app.estimates.forget()
            app.asking.forget()
            app.getSystemService(NotificationManager::class.java)!!.cancelAll()
            val left = places().filter { it.files().isNotEmpty() }
            if (left.isNotEmpty()) throw AppException(Words.of(R.string.wipe_left, left.joinToString { it.name }))
        }
    }

    private fun roots(): List<File> = listOfNotNull(app.folders.own, app.getExternalFilesDir(null))

    private fun places(): List<File> =
        roots().flatMap { root -> KINDS.map { File(root, it) } } + listOfNotNull(app.cacheDir, app.externalCacheDir).flatMap { it.listFiles().orEmpty().toList() }

    private companion object {
        val KINDS = listOf("runs", "bundles", "data")
    }
}
