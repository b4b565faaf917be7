package dev.toolkit.trainer.ui

import android.app.Activity
import android.app.AlertDialog
import android.content.Intent
import android.net.Uri
import android.view.View
import android.widget.Button
import android.widget.ProgressBar
import android.widget.TextView
import dev.toolkit.trainer.R
import dev.toolkit.trainer.TrainerApp
import dev.toolkit.trainer.engine.Engine
import dev.toolkit.trainer.service.ActiveRun
import dev.toolkit.trainer.service.Doing
import dev.toolkit.trainer.service.TrainingService
import dev.toolkit.trainer.store.AppException
import dev.toolkit.trainer.store.Bundle
import dev.toolkit.trainer.store.Learned
import dev.toolkit.trainer.store.Run
import dev.toolkit.trainer.store.RunExport
import dev.toolkit.trainer.store.RunState
import dev.toolkit.trainer.store.TraceReader
import dev.toolkit.trainer.store.TraceSummary
import dev.toolkit.trainer.store.files
import dev.toolkit.trainer.store.isApproximate
import dev.toolkit.trainer.store.titles
import dev.toolkit.trainer.ui.Screen.Companion.message
import dev.toolkit.trainer.ui.Screen.Companion.visible
import java.io.File

/**
 * The page of one run: curves, figures, and what can be done with it. A screen of its own on a phone, beside the list on a
 * tablet.
 *
 * @param root has the views of layout/run_page.xml
 * @param advises whether it is a screen of its own and offers what nights need; beside the list that does
 * @param renamed called with the new name of the run, which the page shows from then on
 * @param gone called when the run is not there any more
 */
class RunPage(
    private val screen: Screen, private val root: View, private val advises: Boolean, private val sharing: Sharing = Sharing(screen),
    private val renamed: (String) -> Unit = {}, private val gone: () -> Unit,
) {
    lateinit var name: String
        private set
    private lateinit var reader: TraceReader
    private val app = TrainerApp.of(screen)

    /** In the bar of a screen of its own. */
    private val title: TextView = screen.requireViewById(R.id.run_name)
    private val advice = Advice(screen, root)
    private val dialogs = RunDialogs(screen, "page", gone = gone, renamed = { to ->
        open(to)
        renamed(to)
        refresh()
    })
    private val figures = RunFigures(screen, root.requireViewById(R.id.figures))
    private val charts = RunCharts(screen, root)
    private val onExported: (String) -> Unit = { words ->
        busy(false)
        screen.tell(words)
    }

    init {
        root.requireViewById<View>(R.id.export).setOnClickListener { export() }
        root.requireViewById<View>(R.id.ask).setOnClickListener { screen.startActivity(AskActivity.intent(screen, name)) }
        root.requireViewById<View>(R.id.share).setOnClickListener { sharing.ask(name) }
        root.requireViewById<View>(R.id.longer).setOnClickListener { prolong() }
        root.requireViewById<View>(R.id.versions).setOnClickListener { askForVersion(name) }
        screen.asks(VERSION) { askForVersion(it) }
        app.exporting.attach(onExported)
    }

    fun open(asked: String) {
        if (isOpen && name != asked) root.scrollTo(0, 0)
        name = asked
        forget()
        title.text = name
        if (advises) screen.title = name // Not shown, but what TalkBack calls the screen.
    }

    val isOpen get() = ::name.isInitialized

    /** What the curves are drawn from is read again when the page is looked at again. */
    fun forget() {
        if (isOpen) reader = TraceReader(app.runs.traceOf(name))
    }

    fun close() = app.exporting.detach(onExported)

    private fun text(id: Int): TextView = root.requireViewById(id)

    fun refresh() {
        if (!isOpen) return
        val asked = name
        val source = reader
        screen.inBackground({ app.runs.find(asked)?.let { pageOf(it, source) } }) { page ->
            if (asked != name) return@inBackground
            if (page == null) gone() else display(page)
        }
    }

    private fun pageOf(run: Run, source: TraceReader): Page {
        // The bundles are read once a page: a manifest has tens of kilobytes.
        if (bundles.isEmpty()) bundles = app.bundles.list()
        val trace = source.read()
        val lowering = bundles.find { it.name == run.bundle && it.problem == null }?.lowering ?: trace.lowering
        return Page(run, trace, bundles.titles()[run.bundle] ?: run.bundle, run.best.takeIf { it.isFile }, Engine.available, isApproximate(lowering))
    }

    private var bundles = emptyList<Bundle>()

    /** What is shown, as files have it. */
    private class Page(
        val run: Run, val trace: TraceSummary, val model: String, val adapter: File?, val engine: Boolean, val isApproximate: Boolean,
    ) {
        val adapterBytes = adapter?.length() ?: 0

        /** Of all that the run keeps: adapters, state, trace. */
        val bytes = run.folder.files().sumOf(File::length)
        val traceBytes = run.trace.length()
        val versions = run.versions.size
        val curves = RunCharts.Curves(trace)
    }

    private fun display(page: Page) {
        val run = page.run
        val trace = page.trace
        val active = app.controller.active?.takeIf { it.name == name }
        text(R.id.details).text = screen.getString(R.string.run_details, page.model, run.data)
        text(R.id.status).message(status(run, active))
        text(R.id.ahead).message(active?.takeIf { it.doing == Doing.TRAINING }?.let { RunText.ahead(screen, it) })
        text(R.id.since).message(active?.let { RunText.since(screen, it) })
        root.requireViewById<Button>(R.id.go_on).wayOut(screen, active)
        text(R.id.problem).message(problem(page, active))
        advice.show(advises && page.engine && (run.begun || active != null))
        val step = active?.progress?.step ?: trace.steps.lastOrNull()?.step ?: run.step
        root.requireViewById<ProgressBar>(R.id.progress).apply {
            visible(run.state != RunState.COMPLETED && (active != null || step > 0))
            max = run.settings.steps
            progress = step.toInt()
        }
        showButtons(page, active)
        charts.show(page.curves)
        figures.show(run, active, trace, step, page.bytes to page.traceBytes)
        showAdapter(page)
        val pauses = trace.events.filter { it.event == "paused" }.takeLast(5)
        root.requireViewById<View>(R.id.pauses_card).visible(pauses.isNotEmpty())
        text(R.id.pauses).text = pauses.joinToString("\n") { pause ->
            val words = pause.detail.replaceFirstChar(Char::uppercase)
            pause.step?.let { screen.getString(R.string.pause_at_step, Numbers.count(it), words) } ?: words
        }
    }

    /** Read out when it changes: every quarter, and when something else happens. */
    private fun status(run: Run, active: ActiveRun?): String {
        val outcome = run.outcome?.takeIf { active == null }?.let { RunText.outcome(screen, it) }
        return listOfNotNull(RunText.status(screen, run, active), outcome).joinToString("\n")
    }

    private fun problem(page: Page, active: ActiveRun?): String? {
        val refusal = app.controller.refusal?.takeIf { it.run == name }
        val words = when {
            !page.engine -> screen.getString(R.string.no_engine_title)
            refusal != null -> RunText.reason(screen, refusal, app.controller.active)
            active == null && RunText.hasReason(page.run) -> RunText.reason(screen, page.run)
            else -> null
        }
        return words?.replaceFirstChar(Char::uppercase)
    }

    private fun showButtons(page: Page, active: ActiveRun?) {
        val run = page.run
        val primary = root.requireViewById<Button>(R.id.primary)
        primary.visible(active != null || RunText.canStart(run))
        primary.strong(active?.hasWayOut != true)
        root.requireViewById<Button>(R.id.go_on).strong(true)
        root.requireViewById<View>(R.id.pause_or_stop).visible(active != null)
        primary.isEnabled = active?.isEnding != true && page.engine
        primary.setText(if (active != null) R.string.pause else RunText.startLabel(run))
        val action = if (active != null) TrainingService.PAUSE else TrainingService.START
        primary.setOnClickListener { TrainingService.start(screen, action, name) }
        root.requireViewById<Button>(R.id.stop).apply {
            visible(active != null)
            isEnabled = active?.isEnding != true
            setOnClickListener { TrainingService.start(screen, TrainingService.STOP, name) }
        }
        root.requireViewById<View>(R.id.buttons).visible(active != null || RunText.canStart(run))
    }

    /** Of several buttons one is the strong one. */
    private fun Button.strong(strong: Boolean) {
        setBackgroundResource(if (strong) R.drawable.button_primary else R.drawable.button_secondary)
        setTextColor(screen.getColorStateList(if (strong) R.color.button_primary_text else R.color.button_secondary_text))
    }

    private fun showAdapter(page: Page) {
        val there = page.adapter != null
        text(R.id.adapter_place).text =
            if (there) screen.getString(R.string.adapter_size, Numbers.bytes(page.adapterBytes)) else screen.getString(R.string.adapter_none)
        text(R.id.adapter_command).message(if (there) screen.getString(R.string.adapter_command, name) else null)
        text(R.id.adapter_learned).message(page.run.learned?.takeIf { it.tokens > 0 }?.let { learned(it, page.run.data) })
        text(R.id.adapter_approximate).message(if (page.isApproximate) screen.getString(R.string.adapter_approximate) else null)
        text(R.id.adapter_version).message(page.run.chosen.takeIf { it > 0 }?.let { screen.getString(R.string.version_chosen, Numbers.count(it)) })
        root.requireViewById<View>(R.id.versions).visible(page.versions > 0 && app.controller.active?.name != name)
        root.requireViewById<View>(R.id.export).visible(there)
        val over = app.controller.active?.name != name && page.run.state in listOf(RunState.COMPLETED, RunState.STOPPED)
        root.requireViewById<View>(R.id.share).visible(there && over)
        root.requireViewById<Button>(R.id.ask).apply {
            visible(there && page.engine && app.controller.active == null)
            strong(!RunText.canStart(page.run))
        }
        root.requireViewById<View>(R.id.longer).visible(page.engine && page.run.state == RunState.COMPLETED && app.controller.active == null)
        busy(app.exporting.running)
    }

    private fun busy(now: Boolean) = root.requireViewById<Button>(R.id.export).run {
        isEnabled = !now
        setText(if (now) R.string.exporting else R.string.export)
    }

    /** What the picker of [export] answers. */
    fun picked(requestCode: Int, resultCode: Int, data: Intent?) {
        val target = data?.data
        if (requestCode == PICK && resultCode == Activity.RESULT_OK && target != null) write(target)
    }

    private fun export() {
        if (RunExport.needsPicker) {
            val pick = Intent(Intent.ACTION_CREATE_DOCUMENT).addCategory(Intent.CATEGORY_OPENABLE)
            screen.startActivityForResult(pick.setType(RunExport.TYPE).putExtra(Intent.EXTRA_TITLE, "$name.zip"), PICK)
        } else {
            write(null)
        }
    }

    /** On its own: adapters are megabytes, and the page may be closed meanwhile. */
    private fun write(target: Uri?) {
        val shared = app
        val asked = name
        shared.exporting.begin {
            try {
                shared.getString(R.string.export_done, RunExport(shared).write(shared.runs.require(asked), target))
            } catch (error: AppException) {
                error.message.orEmpty()
            }
        }
        busy(true)
    }

    private fun learned(learned: Learned, data: String) = screen.getString(
        R.string.learned_from, data, screen.resources.getQuantityString(R.plurals.texts, learned.documents, Numbers.count(learned.documents.toLong())),
        Numbers.count(learned.tokens),
    )

    /** Earlier saves, to go back to: what is tried, shared and exported is that one then. */
    private fun askForVersion(asked: String) = screen.inBackground({ app.runs.find(asked)?.let { it to it.versions } }) { found ->
        val (run, versions) = found ?: return@inBackground
        val steps = listOf(0L) + versions.map { it.step }
        val lines = listOf(screen.getString(R.string.version_automatic)) + versions.map {
            screen.getString(if (it.isBest) R.string.version_best else R.string.version_step, Numbers.count(it.step))
        }
        val question = AlertDialog.Builder(screen).setTitle(R.string.versions)
            .setSingleChoiceItems(lines.toTypedArray(), steps.indexOf(run.chosen).coerceAtLeast(0)) { dialog, index ->
                dialog.dismiss()
                screen.inBackground({ if (app.controller.active?.name != run.name) app.runs.choose(run.name, steps[index]) }) { refresh() }
            }.setNegativeButton(R.string.cancel, null).show()
        screen.keep(VERSION, asked, question)
    }

    private fun prolong() = screen.inBackground({ app.runs.prolong(name) }) { TrainingService.start(screen, TrainingService.START, name) }

    fun askToRename() = dialogs.askToRename(name)

    fun askToDelete() = dialogs.askToDelete(name)

    private companion object {
        const val PICK = 11
        const val VERSION = "version"
    }
}
