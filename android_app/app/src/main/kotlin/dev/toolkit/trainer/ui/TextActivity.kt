package dev.toolkit.trainer.ui

import android.app.AlertDialog
import android.content.ClipboardManager
import android.content.Intent
import android.net.Uri
import android.os.Bundle
import android.provider.OpenableColumns
import android.view.View
import android.view.ViewGroup
import android.widget.Button
import android.widget.EditText
import android.widget.ImageButton
import android.widget.Spinner
import android.widget.TextView
import dev.toolkit.trainer.R
import dev.toolkit.trainer.store.AppException
import dev.toolkit.trainer.store.Bundle as ModelBundle
import dev.toolkit.trainer.store.DataSet
import dev.toolkit.trainer.store.Names
import dev.toolkit.trainer.store.TextData
import dev.toolkit.trainer.store.Utf8
import java.io.ByteArrayOutputStream
import java.io.FileNotFoundException
import java.io.IOException

/** "Train on my text": text in, training data out; and what is kept of it, with its deletion. */
class TextActivity : Screen() {
    private class Picked(val uri: Uri, val name: String, val bytes: Long)

    private var bundles = emptyList<ModelBundle>()
    private val picked = ArrayList<Picked>()
    private var making = false

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        show(R.layout.activity_text, getString(R.string.train_on_text), up = true)
        if (savedInstanceState == null) {
            field(R.id.name).setText(Names.free(getString(R.string.data_name_default)) { name -> app.data.find(name) != null })
        }
        // The permission to read a picked file lasts as long as this task, so its address is enough.
        savedInstanceState?.getStringArrayList(PICKED)?.forEach { add(Uri.parse(it)) }
        requireViewById<View>(R.id.paste).setOnClickListener { paste() }
        requireViewById<View>(R.id.add_files).setOnClickListener { pick() }
        requireViewById<View>(R.id.make).setOnClickListener { make() }
        inBackground({ app.bundles.list().filter { it.problem == null && it.hasTokenizer } }) { found ->
            bundles = found
            requireViewById<Spinner>(R.id.bundle).fill(found.map { it.name }, 0) {}
            requireViewById<View>(R.id.bundle).visible(found.isNotEmpty())
            requireViewById<View>(R.id.bundle_label).visible(found.isNotEmpty())
            requireViewById<View>(R.id.make).isEnabled = found.isNotEmpty()
            if (found.isEmpty()) text(R.id.problem).message(getString(R.string.text_no_bundle))
        }
    }

    override fun onStart() {
        super.onStart()
        showKept()
    }

    override fun onSaveInstanceState(outState: Bundle) {
        super.onSaveInstanceState(outState)
        outState.putStringArrayList(PICKED, ArrayList(picked.map { it.uri.toString() }))
    }

    private fun paste() {
        val clip = getSystemService(ClipboardManager::class.java)!!.primaryClip ?: return
        if (clip.itemCount == 0) return
        val field = field(R.id.text)
        val at = field.selectionStart.coerceAtLeast(0)
        field.text.insert(at, clip.getItemAt(0).coerceToText(this))
    }

    private fun pick() {
        val intent = Intent(Intent.ACTION_OPEN_DOCUMENT).addCategory(Intent.CATEGORY_OPENABLE).setType("text/*")
        startActivityForResult(intent.putExtra(Intent.EXTRA_ALLOW_MULTIPLE, true), PICK)
    }

    @Deprecated("The platform's own way without androidx")
    override fun onActivityResult(requestCode: Int, resultCode: Int, data: Intent?) {
        if (requestCode != PICK || resultCode != RESULT_OK || data == null) return
        val clip = data.clipData
        if (clip != null) (0 until clip.itemCount).forEach { add(clip.getItemAt(it).uri) } else data.data?.let(::add)
    }

    private fun add(uri: Uri) {
        // Only what the picker gives: a file address could lead to the app's own files.
        if (uri.scheme != "content" || picked.size >= MOST_FILES || picked.any { it.uri == uri }) return
        var name = uri.lastPathSegment.orEmpty()
        var bytes = 0L
        try {
            contentResolver.query(uri, null, null, null, null)?.use { row ->
                if (!row.moveToFirst()) return@use
                row.getColumnIndex(OpenableColumns.DISPLAY_NAME).takeIf { it >= 0 }?.let { name = row.getString(it) ?: name }
                row.getColumnIndex(OpenableColumns.SIZE).takeIf { it >= 0 }?.let { bytes = row.getLong(it) }
            }
        } catch (_: SecurityException) {
            return
        }
        picked += Picked(uri, name.takeLast(60), bytes)
        showPicked()
    }

    private fun showPicked() {
        val list = requireViewById<ViewGroup>(R.id.files)
        list.removeAllViews()
        for (file in picked) {
            val row = layoutInflater.inflate(R.layout.item_kept, list, false)
            row.requireViewById<TextView>(R.id.kept_name).text = file.name
            row.requireViewById<TextView>(R.id.kept_details).text = Numbers.bytes(file.bytes)
            row.requireViewById<ImageButton>(R.id.delete).apply {
                contentDescription = getString(R.string.remove_file, file.name)
                setOnClickListener {
                    picked.remove(file)
                    showPicked()
                }
            }
            list.addView(row)
        }
    }

    private fun make() {
        if (making) return
        val bundle = bundles.getOrNull(requireViewById<Spinner>(R.id.bundle).selectedItemPosition) ?: return
        val typed = field(R.id.text).text.toString()
        if (typed.isBlank() && picked.isEmpty()) {
            text(R.id.problem).message(getString(R.string.text_empty))
            return
        }
        busy(true)
        val name = field(R.id.name).text.toString().trim()
        val files = picked.toList()
        inBackground({ attempt(name, bundle, typed, files) }) { (data, problem) ->
            busy(false)
            text(R.id.problem).message(problem)
            if (data == null) return@inBackground
            field(R.id.text).text.clear()
            picked.clear()
            startActivity(NewRunActivity.intent(this, bundle.name, data.name))
            finish()
        }
    }

    private fun attempt(name: String, bundle: ModelBundle, typed: String, files: List<Picked>): Pair<DataSet?, String?> =
        try {
            TextData(app.folders).make(name, bundle, listOf(typed) + files.map(::read)) to null
        } catch (error: AppException) {
            null to error.message
        } catch (_: OutOfMemoryError) {
            null to "There is too much text at once for this phone's memory. Use a part of it."
        }

    private fun read(file: Picked): String {
        try {
            val stream = contentResolver.openInputStream(file.uri) ?: throw FileNotFoundException()
            val content = ByteArrayOutputStream()
            stream.use {
                val chunk = ByteArray(1 shl 16)
                while (true) {
                    val count = it.read(chunk)
                    if (count < 0) break
                    content.write(chunk, 0, count)
                    if (content.size() > TextData.LARGEST_FILE) {
                        throw AppException("${file.name} is larger than ${Numbers.bytes(TextData.LARGEST_FILE.toLong())}. Use a part of it.")
                    }
                }
            }
            return Utf8.decode(content.toByteArray())
        } catch (error: IOException) {
            throw AppException("${file.name} cannot be read. Add it again.", error)
        } catch (error: SecurityException) {
            throw AppException("${file.name} cannot be read any more. Add it again.", error)
        }
    }

    private fun busy(now: Boolean) {
        making = now
        requireViewById<Button>(R.id.make).apply {
            isEnabled = !now
            setText(if (now) R.string.making_data else R.string.make_data)
        }
    }

    private fun showKept() = inBackground({ app.data.list().filter { it.own } }) { sets ->
        val list = requireViewById<ViewGroup>(R.id.kept)
        list.removeAllViews()
        requireViewById<View>(R.id.kept_nothing).visible(sets.isEmpty())
        for (set in sets) {
            val row = layoutInflater.inflate(R.layout.item_kept, list, false)
            row.requireViewById<TextView>(R.id.kept_name).text = set.name
            val sequences = Numbers.count(set.sequences.toLong())
            row.requireViewById<TextView>(R.id.kept_details).text = getString(R.string.kept_details, Numbers.count(set.tokens), sequences)
            row.requireViewById<ImageButton>(R.id.delete).apply {
                contentDescription = getString(R.string.delete_data, set.name)
                setOnClickListener { askToDelete(set) }
            }
            list.addView(row)
        }
    }

    private fun askToDelete(set: DataSet) {
        val user = app.controller.active?.let { app.runs.find(it.name) }
        if (user?.data == set.name) {
            text(R.id.problem).message(getString(R.string.data_in_use))
            return
        }
        AlertDialog.Builder(this).setMessage(getString(R.string.delete_data_question, set.name))
            .setNegativeButton(R.string.cancel, null)
            .setPositiveButton(R.string.delete) { _, _ ->
                app.data.delete(set.name)
                showKept()
            }.show()
    }

    private fun field(id: Int): EditText = requireViewById(id)

    private companion object {
        const val PICK = 1
        const val PICKED = "picked"
        const val MOST_FILES = 100
    }
}
