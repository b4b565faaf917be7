package dev.toolkit.trainer.store

import android.content.ContentValues
import android.content.Context
import android.net.Uri
import android.os.Build
import android.os.Environment
import android.provider.MediaStore
import java.io.File
import java.io.IOException
import java.util.zip.ZipEntry
import java.util.zip.ZipOutputStream

/** Writes a run's adapter and trace as one zip to Downloads, for builds that `run-as` cannot look into. */
class RunExport(private val context: Context) {
    /**
     * Writes to the document [target], or without one as a new file in Downloads.
     *
     * @return the file's name, as the system has numbered it
     * @throws AppException it cannot be written
     */
    fun write(run: Run, target: Uri?): String {
        var created: Uri? = null
        try {
            val uri = target ?: create(run).also { created = it }
            val stream = context.contentResolver.openOutputStream(uri) ?: throw IOException("no such document")
            ZipOutputStream(stream).use { zip -> FILES.map { File(run.folder, it) }.filter(File::isFile).forEach { zip.add(run, it) } }
            created?.let(::publish)
            return nameOf(uri) ?: "${run.name}.zip"
        } catch (error: IOException) {
            throw failed(error, "Free some space and try again.", created)
        } catch (error: RuntimeException) {
            // Providers of documents are other apps and throw what they like.
            throw failed(error, "Try again.", created)
        }
    }

    private fun publish(uri: Uri) {
        if (Build.VERSION.SDK_INT < Build.VERSION_CODES.Q) return
        context.contentResolver.update(uri, ContentValues().apply { put(MediaStore.MediaColumns.IS_PENDING, 0) }, null, null)
    }

    private fun failed(error: Exception, remedy: String, created: Uri?): AppException {
        if (created != null) runCatching { context.contentResolver.delete(created, null, null) }
        return AppException("The export cannot be written: ${error.message}. $remedy", error)
    }

    private fun nameOf(uri: Uri): String? =
        context.contentResolver.query(uri, arrayOf(MediaStore.MediaColumns.DISPLAY_NAME), null, null, null)?.use {
            if (it.moveToFirst()) it.getString(0) else null
        }

    private fun create(run: Run): Uri {
        if (Build.VERSION.SDK_INT < Build.VERSION_CODES.Q) throw AppException("Choose where to save the export.")
        val values = ContentValues().apply {
            put(MediaStore.MediaColumns.DISPLAY_NAME, "${run.name}.zip")
            put(MediaStore.MediaColumns.MIME_TYPE, TYPE)
            put(MediaStore.MediaColumns.RELATIVE_PATH, Environment.DIRECTORY_DOWNLOADS)
            put(MediaStore.MediaColumns.IS_PENDING, 1)
        }
        return context.contentResolver.insert(MediaStore.Downloads.EXTERNAL_CONTENT_URI, values)
            ?: throw AppException("Downloads cannot be written to.")
    }

    private fun ZipOutputStream.add(run: Run, file: File) {
        putNextEntry(ZipEntry("${run.name}/${file.name}"))
        file.inputStream().use { it.copyTo(this) }
        closeEntry()
    }

    companion object {
        const val TYPE = "application/zip"
        private val FILES = listOf("adapter_model.safetensors", "adapter_config.json", "trace.jsonl")

        /** Before Android 10 only the system picker writes to Downloads without a permission. */
        val needsPicker: Boolean get() = Build.VERSION.SDK_INT < Build.VERSION_CODES.Q
    }
}
