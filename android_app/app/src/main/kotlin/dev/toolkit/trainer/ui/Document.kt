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
import dev.toolkit.trainer.Words
import dev.toolkit.trainer.chats.Binary
import dev.toolkit.trainer.chats.Format
import dev.toolkit.trainer.store.AppException
import dev.toolkit.trainer.store.TextData
import dev.toolkit.trainer.store.Utf8
import java.io.BufferedInputStream
import java.io.ByteArrayOutputStream
import java.io.FileNotFoundException
import java.io.IOException
import java.io.InputStream
import java.util.zip.ZipException
import java.util.zip.ZipInputStream

/** What a document, or the chat in a zip, says. */
class Content(val name: String, val text: String, val isInZip: Boolean = false)

/** A document of another app; [bytes] is 0 where its provider does not say. */
class Document(val uri: Uri, val name: String, val bytes: Long) {
    /**
     * All of it, as text; of a zip the chat that WhatsApp exported.
     *
     * @param isOver asked now and then whether nobody waits for it any more
     * @throws AppException it is too large, no text, or cannot be read
     */
    fun read(context: Context, isOver: () -> Boolean = { false }): Content {
        try {
            BufferedInputStream(context.contentResolver.openInputStream(uri) ?: throw FileNotFoundException()).use { stream ->
                stream.mark(ZIP.length)
                val isZip = ZIP.all { stream.read() == it.code }
                stream.reset()
                (if (isZip) chatIn(stream, isOver) else null)?.let { return it }
                val bytes = if (isZip) ZIP.toByteArray() else stream.all(isOver)
                Binary.kind(bytes)?.let { throw AppException(context.getString(R.string.file_binary, name, it)) }
                return Content(name, Utf8.decode(bytes))
            }
        } catch (error: IOException) {
            throw AppException(context.getString(R.string.file_unreadable, name), error)
        } catch (error: AppException) {
            throw error
        } catch (error: RuntimeException) {
            // No permission any more, or a provider in trouble.
            throw AppException(context.getString(R.string.file_gone, name), error)
        }
    }

    /**
     * The text of a chat among pictures and other files, or null; they are left out as they are passed by. A text that was sent in a
     * chat may be too large, or a chat itself, which iOS tells apart by the name.
     */
    private fun chatIn(stream: InputStream, isOver: () -> Boolean): Content? {
        var chat: Content? = null
        var same = 0
        var large: AppException? = null
        try {
            val zip = ZipInputStream(stream)
            for (entry in generateSequence { if (isOver()) null else zip.nextEntry }.filter { it.name.endsWith(".txt", ignoreCase = true) }) {
                val text = try {
                    Utf8.decode(zip.all(isOver))
                } catch (error: AppException) {
                    large = error
                    continue
                }
                val found = Content(entry.name.substringAfterLast('/').takeLast(LONGEST_NAME), text, isInZip = true)
                if (Format.of(found.name, text) != Format.WHATSAPP) continue
                val better = (found.name == CHAT).compareTo(chat?.name == CHAT)
                if (chat == null || better > 0) {
                    chat = found
                    same = 1
                } else if (better == 0) same++
            }
        } catch (_: ZipException) {
            return null
        } catch (_: IllegalArgumentException) {
            return null // A name in no known encoding.
        }
        if (same > 1) throw AppException(Words.of(R.string.file_two_chats, name))
        if (chat == null) large?.let { throw it }
        return chat
    }

    private fun InputStream.all(isOver: () -> Boolean): ByteArray {
        val content = ByteArrayOutputStream()
        val chunk = ByteArray(1 shl 16)
        while (true) {
            val count = read(chunk)
            if (count < 0) return content.toByteArray()
            content.write(chunk, 0, count)
            if (isOver()) throw AppException(Words.of(R.string.text_cancelled))
            if (content.size() > TextData.LARGEST_FILE) {
                throw AppException(Words.of(R.string.file_large, name, Numbers.bytes(TextData.LARGEST_FILE.toLong())))
            }
        }
    }

    companion object {
        private const val LONGEST_NAME = 60
        private const val ZIP = "PK\u0003\u0004"
        private const val CHAT = "_chat.txt"

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
