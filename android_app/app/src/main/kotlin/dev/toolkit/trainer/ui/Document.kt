package dev.toolkit.trainer.ui

import android.content.ContentResolver
import android.content.Context
import android.content.Intent
import android.net.Uri
import android.os.Build
import android.os.Parcelable
import android.provider.OpenableColumns
import android.util.Log
import dev.toolkit.trainer.R
import dev.toolkit.trainer.store.AppException
import dev.toolkit.trainer.store.TextData
import dev.toolkit.trainer.store.Utf8
import java.io.ByteArrayOutputStream
import java.io.FileNotFoundException
import java.io.IOException

/** A document of another app; [bytes] is 0 where its provider does not say. */
class Document(val uri: Uri, val name: String, val bytes: Long) {
    /**
     * All of it, as text.
     *
     * @throws AppException it is too large or cannot be read
     */
    fun read(context: Context): String {
        try {
            val stream = context.contentResolver.openInputStream(uri) ?: throw FileNotFoundException()
            val content = ByteArrayOutputStream()
            stream.use {
                val chunk = ByteArray(1 shl 16)
                while (true) {
                    val count = it.read(chunk)
                    if (count < 0) break
                    content.write(chunk, 0, count)
                    if (content.size() > TextData.LARGEST_FILE) {
                        throw AppException(context.getString(R.string.file_large, name, Numbers.bytes(TextData.LARGEST_FILE.toLong())))
                    }
                }
            }
            return Utf8.decode(content.toByteArray())
        } catch (error: IOException) {
            throw AppException(context.getString(R.string.file_unreadable, name), error)
        } catch (error: RuntimeException) {
            // No permission any more, or a provider in trouble.
            throw AppException(context.getString(R.string.file_gone, name), error)
        }
    }

    companion object {
        private const val LONGEST_NAME = 60

        /** What is known of it without asking anybody. */
        fun of(uri: Uri) = Document(uri, uri.lastPathSegment.orEmpty().takeLast(LONGEST_NAME), 0)

        /** Asks the provider, which may be slow, as one that keeps its files on the net. */
        fun describe(resolver: ContentResolver, uri: Uri): Document {
            var name = uri.lastPathSegment.orEmpty()
            var bytes = 0L
            try {
                resolver.query(uri, null, null, null, null)?.use { row ->
                    if (!row.moveToFirst()) return@use
                    row.getColumnIndex(OpenableColumns.DISPLAY_NAME).takeIf { it >= 0 }?.let { name = row.getString(it) ?: name }
                    row.getColumnIndex(OpenableColumns.SIZE).takeIf { it >= 0 }?.let { bytes = row.getLong(it) }
                }
            } catch (error: RuntimeException) {
                // Providers are other apps. Reading it will tell.
                Log.w("toolkit", "no description of a document", error)
            }
            return Document(uri, name.takeLast(LONGEST_NAME), bytes)
        }

        /**
         * Returns what another app shares or wants opened, of whatever it sends only what a provider gives: a file address
         * could lead to the app's own files.
         */
        fun sentBy(intent: Intent): List<Uri> {
            val sent = try {
                when (intent.action) {
                    Intent.ACTION_SEND -> listOf(stream(intent))
                    Intent.ACTION_SEND_MULTIPLE -> streams(intent)
                    else -> listOf(intent.data)
                }
            } catch (error: RuntimeException) {
                // Something that is not what it should be, or of a class that is not here.
                Log.w("toolkit", "what was sent cannot be read", error)
                emptyList()
            }
            return sent.filterIsInstance<Uri>().filter { it.scheme == ContentResolver.SCHEME_CONTENT }
        }

        // Android 13 has the typed ones as well, but they fail there for some senders.
        @Suppress("DEPRECATION")
        private fun stream(intent: Intent): Parcelable? =
            if (Build.VERSION.SDK_INT < Build.VERSION_CODES.UPSIDE_DOWN_CAKE) intent.getParcelableExtra(Intent.EXTRA_STREAM)
            else intent.getParcelableExtra(Intent.EXTRA_STREAM, Uri::class.java)

        @Suppress("DEPRECATION")
        private fun streams(intent: Intent): List<Parcelable?> = (
            if (Build.VERSION.SDK_INT < Build.VERSION_CODES.UPSIDE_DOWN_CAKE) intent.getParcelableArrayListExtra<Parcelable>(Intent.EXTRA_STREAM)
            else intent.getParcelableArrayListExtra(Intent.EXTRA_STREAM, Uri::class.java)
            ).orEmpty()
    }
}
