package dev.toolkit.trainer.ui

import android.content.ClipboardManager
import android.content.Intent
import android.net.Uri
import android.os.Bundle
import android.text.InputFilter
import android.text.Spanned
import android.view.View
import android.view.ViewGroup
import android.widget.Button
import android.widget.EditText
import android.widget.ImageButton
import android.widget.Spinner
import android.widget.TextView
import dev.toolkit.trainer.R
import dev.toolkit.trainer.chats.Choices
import dev.toolkit.trainer.chats.Format
import dev.toolkit.trainer.chats.TextDocument
import dev.toolkit.trainer.service.Doing
import dev.toolkit.trainer.store.AppException
import dev.toolkit.trainer.store.Bundle as ModelBundle
import dev.toolkit.trainer.store.DataSet
import dev.toolkit.trainer.store.Names
import dev.toolkit.trainer.store.TextData
import dev.toolkit.trainer.store.Utf8
import dev.toolkit.trainer.store.titles
import java.io.ByteArrayOutputStream
import java.io.FileNotFoundException
import java.io.IOException

/** Training data that was made, or why it was not. */
class MadeData(val data: DataSet?, val problem: String?, val isOfName: Boolean = false)

/** "Train on my text": text in, training data out; and what is kept of it, with its deletion. */
class TextActivity : Screen() {
    private var bundles = emptyList<ModelBundle>()
    private val picked = LinkedHashMap<Uri, Document>()
    private val inspected = HashMap<Uri, Inspected>()
    private lateinit var fileChoices: FileChoices
    private var wantedBundle: String? = null
    private val onMade: (MadeData) -> Unit = ::made

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        show(R.layout.activity_text, getString(R.string.train_on_text), up = true)
        if (savedInstanceState == null) {
            app.makingData.forget()
            inBackground({ Names.free(getString(R.string.data_name_default)) { app.data.find(it) != null } }) {
                if (field(R.id.name).text.isEmpty()) field(R.id.name).setText(it)
            }
        }
        wantedBundle = savedInstanceState?.getString(BUNDLE)
        fileChoices = FileChoices(this, savedInstanceState)
        // The permission to read a picked file lasts as long as this task, so its address is enough.
        add(savedInstanceState?.getStringArrayList(PICKED).orEmpty().map(Uri::parse))
        field(R.id.text).filters = arrayOf(InputFilter(::limited))
        if (savedInstanceState == null) takeShared(intent)
        requireViewById<View>(R.id.paste).setOnClickListener { paste() }
        requireViewById<View>(R.id.add_files).setOnClickListener { pick() }
        requireViewById<View>(R.id.make).setOnClickListener { make() }
        requireViewById<View>(R.id.cancel).setOnClickListener { app.makingText?.cancel() }
        busy(app.makingData.running)
        app.makingData.attach(onMade)
        inBackground({ app.bundles.list().filter { it.problem == null && it.hasTokenizer } }) { found ->
            bundles = found
            val titles = found.titles()
            requireViewById<Spinner>(R.id.bundle).fill(found.map { titles.getValue(it.name) }, found.indexOfFirst { it.name == wantedBundle }) {}
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
        fileChoices.save(outState)
    }

    private fun chosenBundle() = bundles.getOrNull(requireViewById<Spinner>(R.id.bundle).selectedItemPosition)

    /** What is typed is kept over a turn of the phone in a parcel, and one that is too large ends the app. */
    private fun limited(source: CharSequence, start: Int, end: Int, dest: Spanned, from: Int, to: Int): CharSequence? {
        if (dest.length - (to - from) + (end - start) <= LONGEST_TEXT) return null
        tell(getString(R.string.text_too_long, Numbers.count(LONGEST_TEXT.toLong())))
        return dest.subSequence(from, to)
    }

    override fun onNewIntent(intent: Intent) {
        super.onNewIntent(intent)
        takeShared(intent)
    }

    /** What another app shares: words, or files that it lets this one read. */
    private fun takeShared(intent: Intent) {
        if (intent.action != Intent.ACTION_SEND && intent.action != Intent.ACTION_SEND_MULTIPLE) return
        runCatching { intent.getCharSequenceExtra(Intent.EXTRA_TEXT) }.getOrNull()?.let { field(R.id.text).append(it.toString()) }
        add(Document.sentBy(intent))
    }

    private fun paste() {
        val clip = getSystemService(ClipboardManager::class.java)!!.primaryClip ?: return
        if (clip.itemCount == 0) return
        val item = clip.getItemAt(0)
        // Words alone, without colours and links; what only a provider can read may take long.
        val words = item.text
        if (words != null) insert(words.toString())
        else inBackground({ item.coerceToText(app).toString().take(LONGEST_TEXT + 1) }, ::insert)
    }

    private fun insert(words: String) {
        val field = field(R.id.text)
        val chosen = listOf(field.selectionStart.coerceAtLeast(0), field.selectionEnd.coerceAtLeast(0))
        field.text.replace(chosen.min(), chosen.max(), words)
    }

    private fun pick() {
        val intent = Intent(Intent.ACTION_OPEN_DOCUMENT).addCategory(Intent.CATEGORY_OPENABLE).setType("*/*").putExtra(Intent.EXTRA_MIME_TYPES, TYPES)
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
        taken.forEach { picked[it] = Document.of(it) }
        showPicked()
        inBackground({ taken.map { Document.describe(contentResolver, it) } }) { described ->
            described.filter { it.uri in picked }.forEach { picked[it.uri] = it }
            showPicked()
            described.forEach(::inspect)
        }
    }

    /** What a file is shows in all of it: a chat has to say who speaks. */
    private fun inspect(file: Document) = inBackground({
        try {
            Inspected.of(file.name, read(file))
        } catch (_: AppException) {
            null
        }
    }) {
        if (it != null && file.uri in picked) {
            inspected[file.uri] = it
            showPicked()
            fileChoices.show(inspected.values)
        }
    }

    private fun showPicked() {
        val list = requireViewById<ViewGroup>(R.id.files)
        list.removeAllViews()
        for (file in picked.values) {
            val row = layoutInflater.inflate(R.layout.item_kept, list, false)
            row.requireViewById<TextView>(R.id.kept_name).text = file.name
            row.requireViewById<TextView>(R.id.kept_details).text =
                listOfNotNull(inspected[file.uri]?.words(this), if (file.bytes > 0) Numbers.bytes(file.bytes) else null).joinToString(" · ")
            row.requireViewById<ImageButton>(R.id.delete).apply {
                contentDescription = getString(R.string.remove_file, file.name)
                setOnClickListener {
                    picked.remove(file.uri)
                    inspected.remove(file.uri)
                    showPicked()
                    fileChoices.show(inspected.values)
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
        // Both at once, the system may have to end the app and its run.
        val training = app.controller.active?.takeIf { it.doing != Doing.WAITING }
        val now = app.conditions.read()
        if (training != null && (now.lowMemory || now.freeMb < NEEDED_MB)) {
            text(R.id.problem).message(getString(R.string.text_beside_run, training.name, now.freeMb))
            return
        }
        busy(true)
        val name = field(R.id.name).text.toString().trim()
        val files = picked.values.toList()
        val choices = fileChoices.choices()
        val making = TextData(app.folders)
        app.makingText = making
        app.makingData.begin { attempt(making, name, bundle, typed, files, choices) }
    }

    private fun made(made: MadeData) {
        busy(false)
        text(R.id.problem).message(made.problem)
        // TalkBack reads it with the field.
        if (made.isOfName) field(R.id.name).run {
            error = made.problem
            requestFocus()
        }
        val data = made.data ?: return
        field(R.id.text).text.clear()
        picked.clear()
        inspected.clear()
        startActivity(NewRunActivity.intent(this, data.bundle, data.name))
        finish()
    }

    private fun attempt(making: TextData, name: String, bundle: ModelBundle, typed: String, files: List<Document>, choices: Choices): MadeData =
        try {
            // One file after the other: together they may not fit into memory.
            val texts = sequenceOf(TextDocument("", text = typed)) + files.asSequence().flatMap { file ->
                val text = read(file)
                Format.of(file.name, text).read(file.name, text, choices)
            }
            MadeData(making.make(name, bundle, texts), null)
        } catch (error: AppException) {
            MadeData(null, error.message, isOfName = error.field == "name")
        } finally {
            app.makingText = null
        }

    private fun read(file: Document): String {
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
                        throw AppException(getString(R.string.file_large, file.name, Numbers.bytes(TextData.LARGEST_FILE.toLong())))
                    }
                }
            }
            return Utf8.decode(content.toByteArray())
        } catch (error: IOException) {
            throw AppException(getString(R.string.file_unreadable, file.name), error)
        } catch (error: RuntimeException) {
            // No permission any more, or a provider in trouble.
            throw AppException(getString(R.string.file_gone, file.name), error)
        }
    }

    private fun busy(now: Boolean) {
        requireViewById<Button>(R.id.make).apply {
            isEnabled = !now
            setText(if (now) R.string.making_data else R.string.make_data)
        }
        requireViewById<View>(R.id.cancel).visible(now)
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
        inBackground({ app.runs.list().filter { it.data == set.name }.map { it.name } }) { users ->
            if (app.controller.active?.name in users) text(R.id.problem).message(getString(R.string.data_in_use))
            else askToDelete(
                getString(R.string.delete_data_question, set.name),
                if (users.isEmpty()) null else getString(R.string.delete_data_users, users.joinToString()),
            ) { inBackground({ app.data.delete(set.name) }) { showKept() } }
        }
    }

    private fun field(id: Int): EditText = requireViewById(id)

    private companion object {
        const val PICK = 1
        val TYPES = arrayOf("text/*", "application/json", "application/x-ndjson", "application/jsonl", "application/csv")
        const val PICKED = "picked"
        const val BUNDLE = "bundle"
        const val MOST_FILES = 100
        const val LONGEST_TEXT = 100_000

        /** Of a tokenizer with a large vocabulary and a file of the largest size. */
        const val NEEDED_MB = 400
    }
}
