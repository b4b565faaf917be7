package dev.toolkit.trainer

import android.app.Activity
import android.content.ClipData
import android.content.ContentProvider
import android.content.ContentValues
import android.content.Intent
import android.database.Cursor
import android.database.MatrixCursor
import android.net.Uri
import android.os.ParcelFileDescriptor
import android.provider.OpenableColumns
import org.robolectric.Robolectric
import org.robolectric.Shadows.shadowOf
import java.io.File
import java.io.FileNotFoundException
import java.util.Collections

/** A provider of documents as the system's file picker and MediaStore show to apps. */
class Documents : ContentProvider() {
    private class Entry(val title: String, val file: File)

    private val entries = LinkedHashMap<String, Entry>()

    /** What was asked to be inserted, and the later changes of it. */
    val inserted = ArrayList<ContentValues>()
    val updated = ArrayList<ContentValues>()
    val deleted = ArrayList<Uri>()

    /** The documents that were read or written, by their last names. */
    val opened: MutableList<String> = Collections.synchronizedList(ArrayList())

    /** Makes every access fail as after a permission was taken back, or as on a full storage. */
    var forbidden = false
    var broken = false

    /** Called with the last name of what is opened. */
    var beforeOpening: (String) -> Unit = {}

    override fun onCreate() = true

    override fun query(uri: Uri, projection: Array<String>?, selection: String?, arguments: Array<String>?, order: String?): Cursor {
        val entry = entries[uri.lastPathSegment]
        val cursor = MatrixCursor(arrayOf(OpenableColumns.DISPLAY_NAME, OpenableColumns.SIZE))
        if (entry != null) cursor.addRow(arrayOf<Any>(entry.title, entry.file.length()))
        return cursor
    }

    override fun openFile(uri: Uri, mode: String): ParcelFileDescriptor {
        if (forbidden) throw SecurityException("no access")
        if (broken) throw FileNotFoundException("No space left on device")
        val entry = entries[uri.lastPathSegment] ?: throw FileNotFoundException(uri.toString())
        opened += uri.lastPathSegment!!
        beforeOpening(uri.lastPathSegment!!)
        return ParcelFileDescriptor.open(entry.file, ParcelFileDescriptor.parseMode(mode))
    }

    override fun insert(uri: Uri, values: ContentValues?): Uri {
        inserted += ContentValues(values)
        val name = "${inserted.size}"
        entries[name] = Entry(values?.getAsString(OpenableColumns.DISPLAY_NAME).orEmpty(), File.createTempFile("document", null))
        return Uri.withAppendedPath(uri, name)
    }

    override fun update(uri: Uri, values: ContentValues?, selection: String?, arguments: Array<String>?): Int {
        updated += ContentValues(values)
        return 1
    }

    override fun delete(uri: Uri, selection: String?, arguments: Array<String>?): Int {
        deleted += uri
        entries.remove(uri.lastPathSegment)
        return 1
    }

    override fun getType(uri: Uri): String = "text/plain"

    /** Puts a file where the picker finds it. */
    fun add(name: String, title: String, content: ByteArray): Uri {
        entries[name] = Entry(title, File.createTempFile("document", null).also { it.writeBytes(content) })
        return Uri.parse("content://$AUTHORITY/$name")
    }

    fun bytes(name: String): ByteArray = entries.getValue(name).file.readBytes()

    companion object {
        private const val AUTHORITY = "dev.toolkit.documents"

        /** Registers a provider for the rest of a test. */
        fun register(authority: String = AUTHORITY): Documents =
            Robolectric.buildContentProvider(Documents::class.java).create(authority).get()

        /** Answers the picker that [screen] has opened. */
        fun answer(screen: Activity, files: List<Uri>) {
            val request = shadowOf(screen).nextStartedActivityForResult
            val clip = ClipData.newRawUri("files", files.first())
            files.drop(1).forEach { clip.addItem(ClipData.Item(it)) }
            shadowOf(screen).receiveResult(request.intent, Activity.RESULT_OK, Intent().apply { clipData = clip })
        }
    }
}
