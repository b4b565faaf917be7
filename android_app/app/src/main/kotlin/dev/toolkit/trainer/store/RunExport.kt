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
        val resolver = context.contentResolver
        val uri = target ?: create(run)
        try {
            val stream = resolver.openOutputStream(uri) ?: throw IOException("no such document")
            ZipOutputStream(stream).use { zip -> FILES.map { File(run.folder, it) }.filter(File::isFile).forEach { zip.add(run, it) } }
            if (target == null && Build.VERSION.SDK_INT >= Build.VERSION_CODES.Q) {
                resolver.update(uri, ContentValues().apply { put(MediaStore.MediaColumns.IS_PENDING, 0) }, null, null)
            }
        } catch (error: IOException) {
            if (target == null) resolver.delete(uri, null, null)
            throw AppException("The export cannot be written: ${error.message}. Free some space and try again.", error)
        }
        return nameOf(uri) ?: "${run.name}.zip"
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
