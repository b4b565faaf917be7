package dev.toolkit.trainer.service

import android.net.Uri
import android.util.Log
import dev.toolkit.trainer.R
import dev.toolkit.trainer.TrainerApp
import dev.toolkit.trainer.store.AppException
import dev.toolkit.trainer.store.BundleImport
import dev.toolkit.trainer.store.Imported
import dev.toolkit.trainer.ui.Errand
import java.io.FileNotFoundException
import java.io.IOException
import java.util.concurrent.CopyOnWriteArraySet

/** A model that was taken in, or why it was not. */
class ImportedModel(val name: String?, val problem: String?)

/** An import that is under way or over: it outlives its screen, and [ImportService] keeps its process alive meanwhile. */
class Importing(private val app: TrainerApp) {
    @Volatile var progress: Imported? = null
        private set

    @Volatile private var current: BundleImport? = null
    private val listeners = CopyOnWriteArraySet<() -> Unit>()

    val errand = Errand {
        when (it) {
            is StackOverflowError -> ImportedModel(null, app.getString(R.string.import_bad_manifest))
            is OutOfMemoryError -> ImportedModel(null, app.getString(R.string.import_long_manifest))
            // No permission any more, or a provider in trouble.
            else -> ImportedModel(null, app.getString(R.string.import_unreadable))
        }
    }

    /** Whether a screen shows how it goes, so that no notification has to say how it ended. */
    var watched = false

    /** Called on any thread after every part of the file and at the end. */
    fun addListener(listener: () -> Unit) = listeners.add(listener)

    fun removeListener(listener: () -> Unit) = listeners.remove(listener)

    /** Begins, unless one is under way; on the main thread, from a screen. */
    fun begin(uri: Uri) {
        if (errand.running) return
        errand.begin({ over(it) }) { read(uri) }
        try {
            ImportService.start(app)
        } catch (error: IllegalStateException) {
            Log.w("toolkit", "an import without its service", error)
        }
    }

    private fun over(imported: ImportedModel) {
        listeners.forEach { it() }
        if (!watched) Notifications(app).imported(imported)
    }

    private fun read(uri: Uri): ImportedModel {
        val reader = BundleImport(app.folders) {
            progress = it
            listeners.forEach { listener -> listener() }
        }
        current = reader
        try {
            // Open from here on: the permission to read may end with the screen that got it.
            val stream = app.contentResolver.openInputStream(uri) ?: throw FileNotFoundException()
            return ImportedModel(reader.read(stream), null)
        } catch (error: AppException) {
            return ImportedModel(null, error.message)
        } catch (_: IOException) {
            return ImportedModel(null, app.getString(R.string.import_unreadable))
        } finally {
            current = null
            progress = null
        }
    }

    val isBusy get() = current != null

    fun cancel() = current?.cancel()
}
