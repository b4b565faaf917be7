package dev.toolkit.trainer.ui

import android.content.Intent
import android.os.Bundle
import android.os.SystemClock
import android.view.Menu
import android.view.MenuItem
import android.view.View
import android.view.ViewGroup
import android.widget.ImageButton
import android.widget.TextView
import dev.toolkit.trainer.R
import dev.toolkit.trainer.engine.Engine
import dev.toolkit.trainer.service.Refusal
import dev.toolkit.trainer.service.Throttle
import dev.toolkit.trainer.service.TrainingService
import dev.toolkit.trainer.store.Bundle as ModelBundle
import dev.toolkit.trainer.store.Run
import dev.toolkit.trainer.store.TraceReader
import dev.toolkit.trainer.store.TraceStep
import dev.toolkit.trainer.store.titles

/** The first screen: runs and bundles. */
class MainActivity : Screen() {
    private class Listing(
        val runs: List<Run>, val damaged: List<String>, val last: Map<String, TraceStep?>, val bundles: List<ModelBundle>,
        val engine: Boolean,
    )

    private val throttle = Throttle(REFRESH_MILLISECONDS) { refresh() }
    private val onChange: () -> Unit = { throttle.request() }
    private val onSampled: (Sampled) -> Unit = { sampled ->
        sampled.problem?.let(::tell)
        sampled.run?.let { FirstRun.open(this, it) }
    }
    private val readers = HashMap<String, TraceReader>()
    private val advice by lazy { Advice(this) }
    private lateinit var dialogs: RunDialogs
    private lateinit var sharing: Sharing
    private var page: RunPage? = null
    private var chosen: String? = null
    private var bundles = emptyList<ModelBundle>()

    @Volatile private var bundlesAt = 0L

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        show(R.layout.activity_main, getString(R.string.app_name), up = false)
        requireViewById<View>(R.id.new_run).setOnClickListener { startActivity(Intent(this, NewRunActivity::class.java)) }
        requireViewById<View>(R.id.train_on_text).setOnClickListener { startActivity(Intent(this, TextActivity::class.java)) }
        asks(DAMAGED) { askToDeleteDamaged(it) }
        asks(MODEL) { askToDeleteModel(it) }
        dialogs = RunDialogs(this, "list", renamed = {}, gone = { refresh() })
        sharing = Sharing(this)
        openPane(savedInstanceState?.getString(OPEN))
        requireViewById<View>(R.id.import_model).setOnClickListener { startActivity(Intent(this, ImportActivity::class.java)) }
        requireViewById<View>(R.id.sample).setOnClickListener { FirstRun.prepare(app) }
        requireViewById<View>(R.id.refusal_dismiss).setOnClickListener { app.controller.dismissRefusal() }
    }

    override fun onStart() {
        super.onStart()
        bundlesAt = 0
        app.sampling.attach(onSampled)
        app.controller.addListener(onChange)
        refresh()
    }

    /** A wide window has the page of one run beside the list. */
    private fun openPane(name: String?) {
        val root = findViewById<View>(R.id.run_page) ?: return
        val side = resources.getDimensionPixelSize(R.dimen.pane_side)
        for (pane in listOf(R.id.list_content, R.id.run_content, R.id.actions)) {
            requireViewById<View>(pane).apply { setPaddingRelative(side, paddingTop, side, paddingBottom) }
        }
        page = RunPage(this, root, advises = false, sharing, renamed = { chosen = it }) {
            chosen = null
            refresh()
        }
        chosen = name
    }

    private fun showPane(runs: List<Run>) {
        val pane = page ?: return
        val shown = runs.firstOrNull { it.name == chosen } ?: runs.firstOrNull()
        requireViewById<View>(R.id.detail).visibility = if (shown == null) View.INVISIBLE else View.VISIBLE
        if (shown == null) return
        chosen = shown.name
        if (!pane.isOpen || pane.name != shown.name) {
            pane.open(shown.name)
            invalidateOptionsMenu()
        }
        pane.refresh()
    }

    private fun open(run: Run) {
        if (page == null) {
            startActivity(RunActivity.intent(this, run.name))
        } else {
            chosen = run.name
            refresh()
        }
    }

    override fun onSaveInstanceState(outState: Bundle) {
        super.onSaveInstanceState(outState)
        outState.putString(OPEN, chosen)
    }

    override fun onDestroy() {
        page?.close()
        super.onDestroy()
    }

    @Deprecated("The platform's own way without androidx")
    override fun onActivityResult(requestCode: Int, resultCode: Int, data: Intent?) {
        page?.picked(requestCode, resultCode, data)
    }

    override fun onStop() {
        app.controller.removeListener(onChange)
        app.sampling.detach(onSampled)
        throttle.cancel()
        super.onStop()
    }

    override fun onCreateOptionsMenu(menu: Menu): Boolean {
        menuInflater.inflate(R.menu.main, menu)
        if (page?.isOpen == true) menuInflater.inflate(R.menu.run, menu)
        return true
    }

    override fun onOptionsItemSelected(item: MenuItem): Boolean {
        when (item.itemId) {
            R.id.settings -> startActivity(Intent(this, SettingsActivity::class.java))
            R.id.rename -> page?.askToRename()
            R.id.delete -> page?.askToDelete()
            else -> return super.onOptionsItemSelected(item)
        }
        return true
    }

    private fun refresh() = inBackground({ read() }) { display(it) }

    private fun read(): Listing {
        val runs = app.runs.list()
        readers.keys.retainAll(runs.map { it.name }.toSet())
        val last = runs.associate { run -> run.name to readers.getOrPut(run.name) { TraceReader(run.trace, TRACE_TAIL) }.read().lastStep }
        // They change rarely, and each has a manifest of tens of kilobytes.
        val now = SystemClock.elapsedRealtime()
        if (bundlesAt == 0L || now - bundlesAt > BUNDLES_MILLISECONDS) {
            bundles = app.bundles.list()
            bundlesAt = now
        }
        return Listing(runs, app.runs.damaged(), last, bundles, Engine.available)
    }

    private fun display(listing: Listing) {
        val active = app.controller.active
        requireViewById<View>(R.id.no_engine).visible(!listing.engine)
        advice.show(listing.engine && listing.runs.any { it.begun || it.name == active?.name })
        showRefusal(app.controller.refusal)
        requireViewById<View>(R.id.no_runs).visible(listing.runs.isEmpty())
        requireViewById<View>(R.id.sample).visible(listing.runs.isEmpty() && listing.engine)
        welcome(listing)
        requireViewById<View>(R.id.no_bundles).visible(listing.bundles.isEmpty())
        val titles = listing.bundles.titles()
        val runs = listing.runs.sortedByDescending { it.name == active?.name }
        fill(R.id.runs, R.layout.item_run, runs) { view, run ->
            RunCard(view, { sharing.ask(it.name) }, { prolong(it) }) { dialogs.askToDelete(it.name) }
                .show(
                    run, active?.takeIf { it.name == run.name }, listing.last[run.name], titles[run.bundle] ?: run.bundle,
                    announces = page == null, // the page beside it does
                )
            view.setOnClickListener { open(run) }
        }
        showPane(runs)
        fill(R.id.damaged, R.layout.item_kept, listing.damaged) { view, name -> showDamaged(view, name) }
        fill(R.id.bundles, R.layout.item_bundle, listing.bundles) { view, bundle ->
            showBundle(view, bundle, titles.getValue(bundle.name))
        }
    }

    /** Once, and only whoever has nothing on this phone yet. */
    private fun welcome(listing: Listing) {
        if (listing.runs.isEmpty() && listing.bundles.isEmpty() && !WelcomeActivity.wasSeen(this)) {
            startActivity(Intent(this, WelcomeActivity::class.java))
        }
    }

    private fun showRefusal(refusal: Refusal?) {
        requireViewById<View>(R.id.refusal).visible(refusal != null)
        if (refusal == null) return
        text(R.id.refusal_title).text = when {
            refusal.fromComputer -> getString(R.string.refused_computer)
            refusal.run != null -> getString(R.string.refused_named, refusal.run)
            else -> getString(R.string.refused)
        }
        text(R.id.refusal_reason).text = RunText.reason(this, refusal, app.controller.active)
    }

    private fun showDamaged(view: View, name: String) {
        view.requireViewById<TextView>(R.id.kept_name).text = name
        view.requireViewById<TextView>(R.id.kept_details).setText(R.string.run_damaged)
        view.requireViewById<ImageButton>(R.id.delete).apply {
            contentDescription = getString(R.string.delete_damaged, name)
            setOnClickListener { askToDeleteDamaged(name) }
        }
    }

    private fun askToDeleteDamaged(name: String) = askToDelete(DAMAGED, name, getString(R.string.delete_damaged_question, name)) {
        inBackground({ app.runs.delete(name) }) { refresh() }
    }

    private fun prolong(run: Run) = inBackground({ app.runs.prolong(run.name) }) {
        TrainingService.start(this, TrainingService.START, run.name)
    }

    private fun showBundle(view: View, bundle: ModelBundle, title: String) {
        view.requireViewById<TextView>(R.id.name).text = title
        val usable = bundle.problem == null
        val details = getString(R.string.bundle_details, Numbers.bytes(bundle.bytes), bundle.layers)
        view.requireViewById<TextView>(R.id.details).message(listOfNotNull(
            details.takeIf { usable }, if (bundle.own) null else getString(R.string.bundle_deployed, bundle.name),
        ).joinToString("\n"))
        view.requireViewById<TextView>(R.id.problem).message(bundle.problem)
        view.requireViewById<ImageButton>(R.id.delete_model).apply {
            visible(bundle.own)
            contentDescription = getString(R.string.delete_model, title)
            setOnClickListener { askToDeleteModel(bundle.name) }
        }
        view.isEnabled = usable
        view.setOnClickListener { startActivity(NewRunActivity.intent(this, bundle.name, null)) }
        view.isClickable = usable
    }

    private fun askToDeleteModel(name: String) = inBackground({ app.bundles.list() to app.runs.list().filter { it.bundle == name } }) { (all, users) ->
        val bundle = all.find { it.name == name } ?: return@inBackground
        if (users.any { it.name == app.controller.active?.name }) {
            tell(getString(R.string.model_in_use))
            return@inBackground
        }
        askToDelete(
            MODEL, bundle.name, getString(R.string.delete_model_question, all.titles().getValue(name), Numbers.bytes(bundle.bytes)),
            if (users.isEmpty()) null else getString(R.string.delete_model_users, users.joinToString { it.name }),
        ) {
            inBackground({
                app.bundles.delete(bundle.name)
                bundlesAt = 0
            }) { refresh() }
        }
    }

    /** Reuses the rows that are there, so that a refresh neither flickers nor takes the focus away. */
    private fun <T> fill(container: Int, layout: Int, items: List<T>, show: (View, T) -> Unit) {
        val rows = requireViewById<ViewGroup>(container)
        while (rows.childCount > items.size) rows.removeViewAt(rows.childCount - 1)
        while (rows.childCount < items.size) layoutInflater.inflate(layout, rows)
        items.forEachIndexed { index, item -> show(rows.getChildAt(index), item) }
    }

    private companion object {
        // The list needs a run's last step only; a step with all its phases takes some 40 KB.
        const val TRACE_TAIL = 1L shl 20
        const val BUNDLES_MILLISECONDS = 10_000L
        const val OPEN = "open"
        const val DAMAGED = "damaged"
        const val MODEL = "model"
    }
}
