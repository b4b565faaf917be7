package dev.toolkit.trainer.store

import android.content.ContentValues
import android.content.Context
import android.net.Uri
import android.os.Build
import android.os.Environment
import android.provider.DocumentsContract
import android.provider.MediaStore
import dev.toolkit.trainer.R
import dev.toolkit.trainer.Words
import java.io.File
import java.io.IOException
import java.util.zip.Deflater
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
            val stream = context.contentResolver.openOutputStream(uri) ?: throw IOException(Words.of(R.string.no_document))
            val files = listOf(run.best) + FILES.map { File(run.folder, it) }
            ZipOutputStream(stream).use { zip -> files.filter(File::isFile).forEach { zip.add(run, it) } }
            created?.let(::publish)
            return nameOf(uri) ?: "${run.name}.zip"
        } catch (error: IOException) {
            throw failed(error, Words.of(R.string.free_space), created, target)
        } catch (error: RuntimeException) {
            // Providers of documents are other apps and throw what they like.
            throw failed(error, Words.of(R.string.try_again), created, target)
        }
    }

    private fun publish(uri: Uri) {
        if (Build.VERSION.SDK_INT < Build.VERSION_CODES.Q) return
        context.contentResolver.update(uri, ContentValues().apply { put(MediaStore.MediaColumns.IS_PENDING, 0) }, null, null)
    }

    /** Half a zip is removed, also one that the picker made. */
    private fun failed(error: Exception, remedy: String, created: Uri?, target: Uri?): AppException {
        if (created != null) runCatching { context.contentResolver.delete(created, null, null) }
        if (target != null) runCatching { DocumentsContract.deleteDocument(context.contentResolver, target) }
        return AppException(Words.of(R.string.export_failed, error.message.orEmpty(), remedy), error)
    }

    private fun nameOf(uri: Uri): String? =
        context.contentResolver.query(uri, arrayOf(MediaStore.MediaColumns.DISPLAY_NAME), null, null, null)?.use {
            if (it.moveToFirst()) it.getString(0) else null
        }

    private fun create(run: Run): Uri {
        if (Build.VERSION.SDK_INT < Build.VERSION_CODES.Q) throw AppException(Words.of(R.string.export_choose))
        val values = ContentValues().apply {
            put(MediaStore.MediaColumns.DISPLAY_NAME, "${run.name}.zip")
            put(MediaStore.MediaColumns.MIME_TYPE, TYPE)
            put(MediaStore.MediaColumns.RELATIVE_PATH, Environment.DIRECTORY_DOWNLOADS)
            put(MediaStore.MediaColumns.IS_PENDING, 1)
        }
        return context.contentResolver.insert(MediaStore.Downloads.EXTERNAL_CONTENT_URI, values)
            ?: throw AppException(Words.of(R.string.downloads_closed))
    }

    private fun ZipOutputStream.add(run: Run, file: File) {
        // Weights do not become smaller, and take their time.
        setLevel(if (file.extension == "safetensors") Deflater.NO_COMPRESSION else Deflater.BEST_SPEED)
        putNextEntry(ZipEntry("${run.name}/${file.name}"))
        file.inputStream().use { it.copyTo(this) }
        closeEntry()
    }

    companion object {
        const val TYPE = "application/zip"
        private val FILES = listOf("adapter_config.json", "trace.jsonl")

        /** Before Android 10 only the system picker writes to Downloads without a permission. */
        val needsPicker: Boolean get() = Build.VERSION.SDK_INT < Build.VERSION_CODES.Q
    }
}
