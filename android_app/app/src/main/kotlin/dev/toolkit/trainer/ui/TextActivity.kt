package dev.toolkit.trainer.ui

import android.content.ClipboardManager
import android.content.Intent
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
import dev.toolkit.trainer.store.AppException
import dev.toolkit.trainer.store.Bundle as ModelBundle
import dev.toolkit.trainer.store.DataSet
import dev.toolkit.trainer.store.Names
import dev.toolkit.trainer.store.TextData
import dev.toolkit.trainer.store.titles

/** Training data that was made, or why it was not. */
class MadeData(val data: DataSet?, val problem: String?, val isOfName: Boolean = false)

/** "Train on my text": text in, training data out; and what is kept of it, with its deletion. */
class TextActivity : Screen() {
    private var bundles = emptyList<ModelBundle>()
    private lateinit var files: PickedFiles
    private var wantedBundle: String? = null
    private val onMade: (MadeData) -> Unit = { made(it) }

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
        asks(DELETE) { askToDelete(it) }
        files = PickedFiles(this, savedInstanceState) { showMake() }
        files.restore(savedInstanceState)
        field(R.id.text).filters = arrayOf(InputFilter(::limited))
        if (savedInstanceState == null) takeShared(intent)
        requireViewById<View>(R.id.paste).setOnClickListener { paste() }
        requireViewById<View>(R.id.add_files).setOnClickListener { pick() }
        requireViewById<View>(R.id.make).setOnClickListener { make() }
        requireViewById<View>(R.id.cancel).setOnClickListener { app.makingText?.cancel() }
        inBackground({ app.bundles.list().filter { it.problem == null && it.hasTokenizer } }) { found ->
            bundles = found
            val titles = found.titles()
            requireViewById<Spinner>(R.id.bundle).fill(found.map { titles.getValue(it.name) }, found.indexOfFirst { it.name == wantedBundle }) {}
            requireViewById<View>(R.id.form).visible(found.isNotEmpty())
            requireViewById<View>(R.id.no_model).visible(found.isEmpty())
        }
    }

    /** Told while it is looked at: from the background the system lets no app open the next screen. */
    override fun onStart() {
        super.onStart()
        showMake()
        showKept()
        app.makingData.attach(onMade)
    }

    override fun onStop() {
        app.makingData.detach(onMade)
        super.onStop()
    }

    override fun onSaveInstanceState(outState: Bundle) {
        super.onSaveInstanceState(outState)
        outState.putString(BUNDLE, chosenBundle()?.name ?: wantedBundle)
        files.save(outState)
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
        val sent = Document.sentBy(intent)
        // Words beside files are a letter for a mail: WhatsApp says in them that the chat is attached.
        if (sent.isEmpty()) runCatching { intent.getCharSequenceExtra(Intent.EXTRA_TEXT) }.getOrNull()?.let { field(R.id.text).append(it.toString()) }
        files.add(sent)
    }

    private fun paste() {
        val clip = getSystemService(ClipboardManager::class.java)!!.primaryClip ?: return
        if (clip.itemCount == 0) return
        val item = clip.getItemAt(0)
        // Words alone, without colours and links; what only a provider can read may take long.
        val words = item.text
        if (words != null) insert(words.toString())
        else inBackground({ item.coerceToText(app).toString().take(LONGEST_TEXT + 1) }) { insert(it) }
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
        files.add(if (clip == null) listOfNotNull(data.data) else List(clip.itemCount) { clip.getItemAt(it).uri }.filterNotNull())
    }

    private fun make() {
        if (app.makingData.running || files.missing() != null) return
        val bundle = chosenBundle() ?: return
        val typed = field(R.id.text).text.toString()
        if (typed.isBlank() && files.all.isEmpty()) {
            text(R.id.problem).message(getString(R.string.text_empty))
            return
        }
        val crowded = files.crowded()
        if (crowded != null) {
            text(R.id.problem).message(crowded)
            return
        }
        // There was no memory for it when it was picked.
        if (files.look { make() }) return
        val name = field(R.id.name).text.toString().trim()
        val picked = files.all
        val making = TextData(app.folders)
        app.makingText = making
        app.makingData.begin { attempt(making, name, bundle, typed, picked) }
        showMake()
    }

    private fun made(made: MadeData) {
        showMake()
        text(R.id.problem).message(made.problem)
        // TalkBack reads it with the field.
        if (made.isOfName) field(R.id.name).run {
            error = made.problem
            requestFocus()
        }
        val data = made.data ?: return
        field(R.id.text).text.clear()
        files.clear()
        startActivity(NewRunActivity.intent(this, data.bundle, data.name))
        finish()
    }

    private fun attempt(making: TextData, name: String, bundle: ModelBundle, typed: String, files: List<Pair<Document, Choices>>): MadeData =
        try {
            // One file after the other: together they may not fit into memory.
            val texts = sequenceOf(TextDocument("", text = typed)) + files.asSequence().flatMap { (file, choices) ->
                val read = file.read(app) { making.cancelled }
                Format.of(read.name, read.text).read(read.name, read.text, choices)
            }
            MadeData(making.make(name, bundle, texts), null)
        } catch (error: AppException) {
            MadeData(null, error.message, isOfName = error.field == "name")
        } finally {
            app.makingText = null
        }

    private fun showMake() {
        val making = app.makingData.running
        requireViewById<Button>(R.id.make).run {
            setText(if (making) R.string.making_data else R.string.make_data)
            allow(!making, text(R.id.why), if (making) null else files.missing())
        }
        requireViewById<View>(R.id.cancel).visible(making)
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
                setOnClickListener { askToDelete(set.name) }
            }
            list.addView(row)
        }
    }

    private fun askToDelete(name: String) {
        inBackground({ app.runs.list().filter { it.data == name }.map { it.name } }) { users ->
            if (app.controller.active?.name in users) text(R.id.problem).message(getString(R.string.data_in_use))
            else askToDelete(
                DELETE, name, getString(R.string.delete_data_question, name),
                if (users.isEmpty()) null else getString(R.string.delete_data_users, users.joinToString()),
            ) { inBackground({ app.data.delete(name) }) { showKept() } }
        }
    }

    private fun field(id: Int): EditText = requireViewById(id)

    private companion object {
        const val PICK = 1
        val TYPES = arrayOf("text/*", "application/json", "application/x-ndjson", "application/jsonl", "application/csv", "application/zip")
        const val BUNDLE = "bundle"
        const val DELETE = "delete"
        const val LONGEST_TEXT = 100_000
    }
}
