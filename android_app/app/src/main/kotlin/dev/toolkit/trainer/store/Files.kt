package dev.toolkit.trainer.store

import dev.toolkit.trainer.R
import dev.toolkit.trainer.Words
import java.io.File
import java.io.FileOutputStream
import java.io.IOException
import java.io.OutputStream
import java.nio.file.Files

/** Writes a file that appears only when it is complete: temporary name, fsync, rename. */
fun File.writeAtomically(write: (OutputStream) -> Unit) {
    val temporary = File(parentFile, "$name.new")
    try {
        parentFile?.mkdirs()
        FileOutputStream(temporary).use { file ->
            write(file)
            file.flush()
            file.fd.sync()
        }
        if (!temporary.renameTo(this)) throw IOException("cannot rename $temporary")
    } catch (error: IOException) {
        temporary.delete()
        val reason = if (error.message.orEmpty().contains("ENOSPC") ||
            error.message.orEmpty().contains("No space left")
        ) {
            Words.of(R.string.storage_full)
        } else {
            error.message ?: error.javaClass.simpleName
        }
        throw AppException(Words.of(R.string.not_written, name, reason), error)
    }
}

/** Reads a file of at most [limit] bytes as text, or returns null if there is none or it is longer. */
fun File.readTextUpTo(limit: Long): String? =
    try {
        if (isFile && length() <= limit) readText() else null
    } catch (_: IOException) {
        null
    }

/** The files in this folder and below it, or this file. Links to folders are not followed. */
fun File.files(): List<File> =
    if (isFile) listOf(this) else if (Files.isSymbolicLink(toPath())) emptyList() else listFiles().orEmpty().flatMap { it.files() }

/** Deletes this file, or folder with all that is in it, but for what cannot be deleted; of a link the link only. */
fun File.deleteTree() {
    if (!Files.isSymbolicLink(toPath())) listFiles()?.forEach { it.deleteTree() }
    delete()
}

/** Whether this file is inside [folder] once all links are resolved; a name that cannot be one is not. */
fun File.isInside(folder: File): Boolean =
    try {
        canonicalFile.path.startsWith(folder.canonicalFile.path + File.separator)
    } catch (_: IOException) {
        false
    }
