@file:Suppress("DEPRECATION", "removal")

package dev.toolkit.trainer

import android.os.Looper
import java.io.File
import java.security.Permission
import java.util.Collections

/** Finds the app's own uses of files in [folders] on the main thread, which stands still meanwhile. */
class FileWatch(private vararg val folders: File) : AutoCloseable {
    val found: MutableList<String> = Collections.synchronizedList(ArrayList())
    private val main = Thread.currentThread().also { check(Looper.myLooper() == Looper.getMainLooper()) }

    init {
        System.setSecurityManager(object : SecurityManager() {
            override fun checkPermission(permission: Permission) = Unit

            override fun checkRead(file: String) = note("reads", file)

            override fun checkWrite(file: String) = note("writes", file)

            override fun checkDelete(file: String) = note("deletes", file)
        })
    }

    private fun note(verb: String, file: String) {
        if (Thread.currentThread() !== main || folders.none { file.startsWith(it.path) }) return
        val frames = Throwable().stackTrace.map { it.className }
        val ours = frames.firstOrNull { it.startsWith("dev.toolkit.trainer.") && "FileWatch" !in it } ?: return
        if (frames.none { it.startsWith("dev.toolkit.trainer.ui.") || it.startsWith("dev.toolkit.trainer.service.") }) return
        found += "$ours $verb $file"
    }

    override fun close() = System.setSecurityManager(null)
}
