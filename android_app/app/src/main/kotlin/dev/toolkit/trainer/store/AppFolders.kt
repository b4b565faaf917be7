package dev.toolkit.trainer.store

import android.content.Context
import android.os.Build
import java.io.File

/**
 * Where things are. Runs and the user's own data are in the app's private folder; bundles and data that
 * `toolkit deploy` sends are where the adb shell can write and apps can read.
 */
class AppFolders(val own: File, private val deployed: () -> List<File>) {
    val runs = File(own, "runs")

    /** Data made from the user's text; never part of a backup. */
    val data = File(own, "data")

    fun bundleRoots(): List<File> = (listOf(own) + deployed()).map { File(it, "bundles") }

    fun dataRoots(): List<File> = (listOf(own) + deployed()).map { File(it, "data") }

    companion object {
        private const val SHELL_FOLDER = "/data/local/tmp/toolkit"

        /** Whether the system keeps other apps out of this app's folder on shared storage: from there the engine reads what it maps. */
        private val isGuarded get() = Build.VERSION.SDK_INT >= Build.VERSION_CODES.R

        /** Tests put their own folder here. */
        @Volatile var deployedOverride: File? = null

        fun of(context: Context): AppFolders {
            // The second one is where the shell can write on phones that keep apps out of the first. It is looked up
            // each time: soon after the phone started there is none yet.
            return AppFolders(context.filesDir) {
                listOfNotNull(deployedOverride ?: File(SHELL_FOLDER), context.getExternalFilesDir(null).takeIf { isGuarded })
            }
        }
    }
}
