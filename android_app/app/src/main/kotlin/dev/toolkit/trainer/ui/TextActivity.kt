package dev.toolkit.trainer.ui

import android.app.AlertDialog
import android.content.ClipboardManager
import android.content.Intent
import android.net.Uri
import android.os.Bundle
import android.provider.OpenableColumns
import android.text.InputFilter
import android.text.Spanned
import android.util.Log
import android.view.View
import android.view.ViewGroup
import android.widget.Button
import android.widget.EditText
import android.widget.ImageButton
import android.widget.Spinner
import android.widget.TextView
import android.widget.Toast
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

/** Training data that was made, or why it was not. */
class MadeData(val data: DataSet?, val problem: String?)

/** "Train on my text": text in, training data out; and what is kept of it, with its deletion. */
class TextActivity : Screen() {
    private class Picked(val uri: Uri, val name: String, val bytes: Long)

    private var bundles = emptyList<ModelBundle>()
    private val picked = LinkedHashMap<Uri, Picked>()
    private var wantedBundle: String? = null
    private val onMade: (MadeData) -> Unit = ::made

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        show(R.layout.activity_text, getString(R.string.train_on_text), up = true)
        if (savedInstanceState == null) {
            field(R.id.name).setText(Names.free(getString(R.string.data_name_default)) { name -> app.data.find(name) != null })
        }
        wantedBundle = savedInstanceState?.getString(BUNDLE)
        // The permission to read a picked file lasts as long as this task, so its address is enough.
        add(savedInstanceState?.getStringArrayList(PICKED).orEmpty().map(Uri::parse))
        field(R.id.text).filters = arrayOf(InputFilter(::limited))
        requireViewById<View>(R.id.paste).setOnClickListener { paste() }
        requireViewById<View>(R.id.add_files).setOnClickListener { pick() }
        requireViewById<View>(R.id.make).setOnClickListener { make() }
        busy(app.makingData.running)
        app.makingData.attach(onMade)
        inBackground({ app.bundles.list().filter { it.problem == null && it.hasTokenizer } }) { found ->
            bundles = found
            requireViewById<Spinner>(R.id.bundle).fill(found.map { it.name }, found.indexOfFirst { it.name == wantedBundle }) {}
            requireViewById<View>(R.id.form).visible(found.isNotEmpty())
            requireViewById<View>(R.id.no_model).visible(found.isEmpty())
        }
    }

    override fun onStart() {
        super.onStart()
        showKept()
    }

    override fun onDestroy() {
        app.makingData.detach(onMade)
        super.onDestroy()
    }

    override fun onSaveInstanceState(outState: Bundle) {
        super.onSaveInstanceState(outState)
        outState.putStringArrayList(PICKED, ArrayList(picked.keys.map { it.toString() }))
        outState.putString(BUNDLE, chosenBundle()?.name ?: wantedBundle)
    }

    private fun chosenBundle() = bundles.getOrNull(requireViewById<Spinner>(R.id.bundle).selectedItemPosition)

    /** What is typed is kept over a turn of the phone in a parcel, and one that is too large ends the app. */
    private fun limited(source: CharSequence, start: Int, end: Int, dest: Spanned, from: Int, to: Int): CharSequence? {
        if (dest.length - (to - from) + (end - start) <= LONGEST_TEXT) return null
        tell(getString(R.string.text_too_long, Numbers.count(LONGEST_TEXT.toLong())))
        return dest.subSequence(from, to)
    }

    private fun paste() {
        val clip = getSystemService(ClipboardManager::class.java)!!.primaryClip ?: return
        if (clip.itemCount == 0) return
        val field = field(R.id.text)
        val chosen = listOf(field.selectionStart.coerceAtLeast(0), field.selectionEnd.coerceAtLeast(0))
        field.text.replace(chosen.min(), chosen.max(), clip.getItemAt(0).coerceToText(this))
    }

    private fun pick() {
        val intent = Intent(Intent.ACTION_OPEN_DOCUMENT).addCategory(Intent.CATEGORY_OPENABLE).setType("text/*")
        startActivityForResult(intent.putExtra(Intent.EXTRA_ALLOW_MULTIPLE, true), PICK)
    }

    @Deprecated("The platform's own way without androidx")
    override fun onActivityResult(requestCode: Int, resultCode: Int, data: Intent?) {
        if (requestCode != PICK || resultCode != RESULT_OK || data == null) return
        val clip = data.clipData
        add(if (clip == null) listOfNotNull(data.data) else List(clip.itemCount) { clip.getItemAt(it).uri }.filterNotNull())
    }

    private fun add(uris: List<Uri>) {
        // Only what the picker gives: a file address could lead to the app's own files.
        val fresh = uris.filter { it.scheme == "content" && it !in picked }.distinct()
        if (picked.size + fresh.size > MOST_FILES) tell(getString(R.string.too_many_files, MOST_FILES))
        val taken = fresh.take(MOST_FILES - picked.size)
        if (taken.isEmpty()) return
        taken.forEach { picked[it] = Picked(it, it.lastPathSegment.orEmpty().takeLast(LONGEST_NAME), 0) }
        showPicked()
        // A provider may be slow, for one that keeps its files on the net.
        inBackground({ taken.map(::described) }) { described ->
            described.filter { it.uri in picked }.forEach { picked[it.uri] = it }
            showPicked()
        }
    }

    private fun described(uri: Uri): Picked {
        var name = uri.lastPathSegment.orEmpty()
        var bytes = 0L
        try {
            contentResolver.query(uri, null, null, null, null)?.use { row ->
                if (!row.moveToFirst()) return@use
                row.getColumnIndex(OpenableColumns.DISPLAY_NAME).takeIf { it >= 0 }?.let { name = row.getString(it) ?: name }
                row.getColumnIndex(OpenableColumns.SIZE).takeIf { it >= 0 }?.let { bytes = row.getLong(it) }
            }
        } catch (error: RuntimeException) {
            // Providers are other apps. Reading it will tell.
            Log.w("toolkit", "no description of a picked file", error)
        }
        return Picked(uri, name.takeLast(LONGEST_NAME), bytes)
    }

    private fun showPicked() {
        val list = requireViewById<ViewGroup>(R.id.files)
        list.removeAllViews()
        for (file in picked.values) {
            val row = layoutInflater.inflate(R.layout.item_kept, list, false)
            row.requireViewById<TextView>(R.id.kept_name).text = file.name
            row.requireViewById<TextView>(R.id.kept_details).text = if (file.bytes > 0) Numbers.bytes(file.bytes) else ""
            row.requireViewById<ImageButton>(R.id.delete).apply {
                contentDescription = getString(R.string.remove_file, file.name)
                setOnClickListener {
                    picked.remove(file.uri)
                    showPicked()
                }
            }
            list.addView(row)
        }
    }

    private fun make() {
        if (app.makingData.running) return
        val bundle = chosenBundle() ?: return
        val typed = field(R.id.text).text.toString()
        if (typed.isBlank() && picked.isEmpty()) {
            text(R.id.problem).message(getString(R.string.text_empty))
            return
        }
        busy(true)
        val name = field(R.id.name).text.toString().trim()
        val files = picked.values.toList()
        app.makingData.begin { attempt(name, bundle, typed, files) }
    }

    private fun made(made: MadeData) {
        busy(false)
        text(R.id.problem).message(made.problem)
        val data = made.data ?: return
        field(R.id.text).text.clear()
        picked.clear()
        startActivity(NewRunActivity.intent(this, data.bundle, data.name))
        finish()
    }

    private fun attempt(name: String, bundle: ModelBundle, typed: String, files: List<Picked>): MadeData =
        try {
            MadeData(TextData(app.folders).make(name, bundle, listOf(typed) + files.map(::read)), null)
        } catch (error: AppException) {
            MadeData(null, error.message)
        } catch (_: OutOfMemoryError) {
            MadeData(null, "There is too much text at once for this phone's memory. Use a part of it.")
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
        } catch (error: RuntimeException) {
            // No permission any more, or a provider in trouble.
            throw AppException("${file.name} cannot be read any more. Add it again.", error)
        }
    }

    private fun busy(now: Boolean) {
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
            row.requireViewById<TextView>(R.id.kept_details).text =
                getString(R.string.kept_details, Numbers.count(set.tokens), sequences(set.sequences))
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

    private fun tell(words: String) = Toast.makeText(this, words, Toast.LENGTH_LONG).show()

    private fun field(id: Int): EditText = requireViewById(id)

    private companion object {
        const val PICK = 1
        const val PICKED = "picked"
        const val BUNDLE = "bundle"
        const val MOST_FILES = 100
        const val LONGEST_NAME = 60
        const val LONGEST_TEXT = 100_000
    }
}
