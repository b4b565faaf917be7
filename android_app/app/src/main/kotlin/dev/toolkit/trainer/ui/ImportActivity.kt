package dev.toolkit.trainer.ui

import android.content.Intent
import android.net.Uri
import android.os.Bundle
import android.view.View
import android.widget.Button
import android.widget.ProgressBar
import dev.toolkit.trainer.R
import dev.toolkit.trainer.service.ImportedModel
import dev.toolkit.trainer.service.Throttle
import dev.toolkit.trainer.store.Names

/** A model from a file, by the system's picker or another app's share sheet; what others share is asked about first. */
class ImportActivity : Screen() {
    private val throttle = Throttle(PROGRESS_MILLISECONDS) { showProgress() }
    private val onProgress: () -> Unit = { throttle.request() }
    private val onImported: (ImportedModel) -> Unit = { done(it) }

    /** What another app wants taken in, until the user has said. */
    private var asked: Uri? = null

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        show(R.layout.activity_import, getString(R.string.import_model), up = true)
        requireViewById<View>(R.id.choose).setOnClickListener { pick() }
        requireViewById<View>(R.id.take).setOnClickListener { asked?.let(::begin) }
        requireViewById<Button>(R.id.cancel).setOnClickListener { if (app.importing.errand.running) app.importing.cancel() else finish() }
        requireViewById<View>(R.id.train_on_text).setOnClickListener {
            startActivity(Intent(this, TextActivity::class.java))
            finish()
        }
        app.importing.errand.attach(onImported)
        app.importing.addListener(onProgress)
        showProgress()
        val kept = savedInstanceState?.getString(ASKED)?.let(Uri::parse)
        ask(if (savedInstanceState == null) Document.sentBy(intent).firstOrNull() else kept)
    }

    override fun onNewIntent(intent: Intent) {
        super.onNewIntent(intent)
        text(R.id.problem).message(null)
        ask(Document.sentBy(intent).firstOrNull())
    }

    override fun onStart() {
        super.onStart()
        app.importing.watched = true
    }

    override fun onStop() {
        app.importing.watched = false
        super.onStop()
    }

    override fun onSaveInstanceState(outState: Bundle) {
        super.onSaveInstanceState(outState)
        outState.putString(ASKED, asked?.toString())
    }

    override fun onDestroy() {
        throttle.cancel()
        app.importing.removeListener(onProgress)
        app.importing.errand.detach(onImported)
        super.onDestroy()
    }

    private fun pick() = startActivityForResult(
        Intent(Intent.ACTION_OPEN_DOCUMENT).addCategory(Intent.CATEGORY_OPENABLE).setType(ZIP), PICK,
    )

    @Deprecated("The platform's own way without androidx")
    override fun onActivityResult(requestCode: Int, resultCode: Int, data: Intent?) {
        val uri = data?.data
        if (requestCode == PICK && resultCode == RESULT_OK && uri != null) begin(uri)
    }

    /** Any app can send a file here, and models are large. */
    private fun ask(uri: Uri?) {
        if (uri == null) return
        asked = uri
        // What is being taken in comes first, and then this is asked.
        if (app.importing.errand.running) return
        inBackground({ Document.describe(contentResolver, uri) to app.folders.own.usableSpace }) { (document, free) ->
            if (asked != uri) return@inBackground
            val size = if (document.bytes > 0) Numbers.bytes(document.bytes) else getString(R.string.import_size_unknown)
            text(R.id.state).text = getString(R.string.import_question, document.name, size, Numbers.bytes(free))
            requireViewById<View>(R.id.take).visible(true)
            requireViewById<View>(R.id.train_on_text).visible(false)
            requireViewById<View>(R.id.cancel).visible(true)
        }
    }

    private fun begin(uri: Uri) {
        asked = null
        text(R.id.problem).message(null)
        app.importing.begin(uri)
        showProgress()
    }

    private fun showProgress() {
        if (isDestroyed) return
        val running = app.importing.errand.running
        val progress = app.importing.progress
        requireViewById<View>(R.id.choose).visible(!running)
        requireViewById<View>(R.id.take).visible(!running && asked != null)
        requireViewById<Button>(R.id.cancel).visible(running || asked != null)
        requireViewById<ProgressBar>(R.id.progress).apply {
            visible(running)
            isIndeterminate = progress == null
            if (progress != null && progress.total > 0) this.progress = (max * progress.done / progress.total).toInt()
        }
        if (!running) return
        requireViewById<View>(R.id.train_on_text).visible(false)
        text(R.id.state).text = if (progress == null) getString(R.string.import_begins)
        else getString(R.string.import_progress, Numbers.bytes(progress.done), Numbers.bytes(progress.total))
    }

    private fun done(imported: ImportedModel) {
        showProgress()
        if (asked != null) {
            // Below the question that follows, until that is answered.
            if (imported.problem == null) tell(getString(R.string.import_done, imported.name))
            text(R.id.problem).message(imported.problem?.let { getString(R.string.import_before_failed, it) })
            ask(asked)
            return
        }
        val name = imported.name
        text(R.id.problem).message(imported.problem)
        text(R.id.state).text = if (name == null) getString(R.string.import_nothing) else getString(R.string.import_done, name)
        requireViewById<View>(R.id.train_on_text).visible(name != null && Names.isValid(name))
    }

    companion object {
        private const val PICK = 1
        private const val ZIP = "application/zip"
        private const val ASKED = "asked"
        private const val PROGRESS_MILLISECONDS = 250L
    }
}
