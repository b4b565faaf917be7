package dev.toolkit.trainer.store

import android.content.ClipData
import android.content.ContentProvider
import android.content.ContentValues
import android.content.Context
import android.content.Intent
import android.database.Cursor
import android.database.MatrixCursor
import android.net.Uri
import android.os.ParcelFileDescriptor
import android.provider.OpenableColumns
import java.io.File
import java.io.FileNotFoundException
import java.util.zip.Deflater
import java.util.zip.ZipEntry
import java.util.zip.ZipOutputStream

/** Hands a run's adapter to the app that the user chooses: a zip that peft reads, without the trace and its device data. */
class SharedFiles : ContentProvider() {
    override fun onCreate() = true

    private fun file(uri: Uri): File {
        val folder = folder(context!!)
        val file = File(folder, uri.lastPathSegment.orEmpty())
        if (!file.isInside(folder) || !file.isFile) throw FileNotFoundException(uri.toString())
        return file
    }

    override fun openFile(uri: Uri, mode: String): ParcelFileDescriptor {
        if (mode != "r") throw FileNotFoundException("read only")
        return ParcelFileDescriptor.open(file(uri), ParcelFileDescriptor.MODE_READ_ONLY)
    }

    override fun query(uri: Uri, columns: Array<String>?, selection: String?, arguments: Array<String>?, order: String?): Cursor {
        val file = file(uri)
        val names = columns ?: arrayOf(OpenableColumns.DISPLAY_NAME, OpenableColumns.SIZE)
        val known = mapOf(OpenableColumns.DISPLAY_NAME to file.name, OpenableColumns.SIZE to file.length())
        return MatrixCursor(names).apply { addRow(names.map { known[it] }) }
    }

    override fun getType(uri: Uri) = type(uri.lastPathSegment.orEmpty())

    override fun insert(uri: Uri, values: ContentValues?): Uri? = null

    override fun delete(uri: Uri, selection: String?, arguments: Array<String>?) = 0

    override fun update(uri: Uri, values: ContentValues?, selection: String?, arguments: Array<String>?) = 0

    companion object {
        private const val AUTHORITY = "dev.toolkit.trainer.shared"

        private fun folder(context: Context) = File(context.cacheDir, "shared")

        private fun type(name: String) = if (name.endsWith(GGUF)) "application/octet-stream" else RunExport.TYPE

        /** Writes the zip and returns what shares it; null without an adapter. What was shared before is gone then. */
        fun adapter(context: Context, run: Run): Intent? {
            val adapter = run.best
            if (!adapter.isFile) return null
            val zip = File(emptied(context), "${run.name}.zip")
            zip.writeAtomically { stream ->
                ZipOutputStream(stream).apply {
                    setLevel(Deflater.NO_COMPRESSION)
                    for (file in listOf(adapter, File(run.folder, "adapter_config.json")).filter(File::isFile)) {
                        putNextEntry(ZipEntry("${run.name}/${file.name}"))
                        file.inputStream().use { it.copyTo(this) }
                        closeEntry()
                    }
                    finish()
                }
            }
            return intent(zip)
        }

        /**
         * The same for apps that are built on llama.cpp.
         *
         * @throws AppException llama.cpp has no such model, or the adapter is damaged
         */
        fun gguf(context: Context, run: Run, bundle: Bundle): Intent? {
            if (!run.best.isFile) return null
            val file = File(emptied(context), run.name + GGUF)
            GgufFile(run, bundle).writeTo(file)
            return intent(file)
        }

        private fun emptied(context: Context) = folder(context).also(File::deleteTree)

        private fun intent(file: File): Intent {
            val uri = Uri.Builder().scheme("content").authority(AUTHORITY).appendPath(file.name).build()
            return Intent(Intent.ACTION_SEND).setType(type(file.name)).putExtra(Intent.EXTRA_STREAM, uri)
                .addFlags(Intent.FLAG_GRANT_READ_URI_PERMISSION).apply { clipData = ClipData.newRawUri("", uri) }
        }

        private const val GGUF = ".gguf"
    }
}
