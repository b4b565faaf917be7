package dev.toolkit.trainer.ui

import android.app.AlertDialog
import android.content.Context
import android.content.Intent
import android.net.Uri
import android.os.Bundle
import android.view.Menu
import android.view.MenuItem
import android.view.View
import android.view.ViewGroup
import android.widget.Button
import android.widget.LinearLayout
import android.widget.ProgressBar
import android.widget.TextView
import android.widget.Toast
import dev.toolkit.trainer.R
import dev.toolkit.trainer.engine.Engine
import dev.toolkit.trainer.service.ActiveRun
import dev.toolkit.trainer.service.Throttle
import dev.toolkit.trainer.service.TrainingService
import dev.toolkit.trainer.store.AppException
import dev.toolkit.trainer.store.Run
import dev.toolkit.trainer.store.RunExport
import dev.toolkit.trainer.store.RunState
import dev.toolkit.trainer.store.TraceReader
import dev.toolkit.trainer.store.TraceStep
import dev.toolkit.trainer.store.TraceSummary
import java.io.File

/** The page of one run: curves, figures, and what can be done with it. */
class RunActivity : Screen() {
    private lateinit var name: String
    private lateinit var traceFile: File
    private lateinit var reader: TraceReader
    private val throttle = Throttle(REFRESH_MILLISECONDS, ::refresh)
    private val onChange: () -> Unit = throttle::request

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        val run = app.runs.find(savedInstanceState?.getString(NAME) ?: intent.getStringExtra(NAME).orEmpty())
        if (run == null) {
            finish()
            return
        }
        show(R.layout.activity_run, getString(R.string.run), up = true)
        open(run)
        requireViewById<View>(R.id.export).setOnClickListener { export() }
    }

    private fun open(run: Run) {
        name = run.name
        traceFile = run.trace
        reader = TraceReader(traceFile)
        text(R.id.run_name).text = name
    }

    /** The page is open already, perhaps of another run: a notification or a second tap asked for it. */
    override fun onNewIntent(intent: Intent) {
        super.onNewIntent(intent)
        val run = app.runs.find(intent.getStringExtra(NAME).orEmpty()) ?: return
        if (run.name == name) return
        open(run)
        requireViewById<View>(R.id.scroll).scrollTo(0, 0)
        refresh()
    }

    override fun onSaveInstanceState(outState: Bundle) {
        super.onSaveInstanceState(outState)
        outState.putString(NAME, name)
    }

    override fun onStart() {
        super.onStart()
        if (isFinishing) return
        app.controller.addListener(onChange)
        refresh()
    }

    override fun onStop() {
        app.controller.removeListener(onChange)
        throttle.cancel()
        super.onStop()
    }

    override fun onTrimMemory(level: Int) {
        super.onTrimMemory(level)
        // What the curves are drawn from is read again when the page is looked at again.
        if (level >= TRIM_MEMORY_UI_HIDDEN && ::traceFile.isInitialized) reader = TraceReader(traceFile)
    }

    override fun onCreateOptionsMenu(menu: Menu): Boolean {
        menuInflater.inflate(R.menu.run, menu)
        return true
    }

    override fun onOptionsItemSelected(item: MenuItem): Boolean {
        when (item.itemId) {
            R.id.delete -> askToDelete()
            else -> return super.onOptionsItemSelected(item)
        }
        return true
    }

    private fun refresh() {
        val asked = name
        val source = reader
        inBackground({ app.runs.find(asked)?.let { it to source.read() } }) { found ->
            if (found == null) finish() else if (asked == name) display(found.first, found.second)
        }
    }

    private fun display(run: Run, trace: TraceSummary) {
        val active = app.controller.active?.takeIf { it.name == name }
        text(R.id.details).text = getString(R.string.run_details, run.bundle, run.data)
        text(R.id.status).let { if (it.text.toString() != RunText.status(this, run, active)) it.text = RunText.status(this, run, active) }
        text(R.id.problem).message(problem(run, active))
        val step = active?.progress?.step ?: trace.steps.lastOrNull()?.step ?: run.step
        requireViewById<ProgressBar>(R.id.progress).apply {
            visible(run.state != RunState.COMPLETED)
            max = run.settings.steps
            progress = step.toInt()
        }
        showButtons(run, active)
        showCharts(trace)
        showFigures(run, active, trace, step)
        showAdapter(run)
        val pauses = trace.events.filter { it.event == "paused" }.takeLast(5)
        requireViewById<View>(R.id.pauses_card).visible(pauses.isNotEmpty())
        text(R.id.pauses).text = pauses.joinToString("\n") { pause ->
            val words = pause.detail.replaceFirstChar(Char::uppercase)
            pause.step?.let { getString(R.string.pause_at_step, Numbers.count(it), words) } ?: words
        }
    }

    private fun problem(run: Run, active: ActiveRun?): String? {
        val refusal = app.controller.refusal?.takeIf { it.run == name }
        val words = when {
            !Engine.available -> getString(R.string.no_engine_title)
            refusal != null -> refusal.reason
            active == null && run.state == RunState.FAILED -> run.reason
            else -> null
        }
        return words?.replaceFirstChar(Char::uppercase)
    }

    private fun showButtons(run: Run, active: ActiveRun?) {
        val primary = requireViewById<Button>(R.id.primary)
        primary.visible(active != null || RunText.canStart(run))
        primary.isEnabled = active?.isEnding != true && Engine.available
        primary.setText(if (active != null) R.string.pause else RunText.startLabel(run))
        val action = if (active != null) TrainingService.PAUSE else TrainingService.START
        primary.setOnClickListener { TrainingService.start(this, action, name) }
        requireViewById<Button>(R.id.stop).apply {
            visible(active != null)
            isEnabled = active?.isEnding != true
            setOnClickListener { TrainingService.start(this@RunActivity, TrainingService.STOP, name) }
        }
        requireViewById<View>(R.id.buttons).visible(active != null || RunText.canStart(run))
    }

    private fun showCharts(trace: TraceSummary) {
        requireViewById<View>(R.id.charts).visible(trace.steps.isNotEmpty())
        requireViewById<View>(R.id.charts_empty).visible(trace.steps.isEmpty())
        val points = trace.steps.filter { it.loss != null }
        val losses = FloatArray(points.size) { points[it].loss!! }
        requireViewById<ChartView>(R.id.loss).apply {
            lineColor = getColor(R.color.chart_loss)
            format = { Numbers.axis(it) }
            show(LongArray(points.size) { points[it].step }, losses)
            contentDescription = if (losses.isEmpty()) getString(R.string.chart_empty) else getString(
                R.string.chart_loss_spoken, losses.size, Numbers.loss(losses.first()), Numbers.loss(losses.last()), Numbers.loss(losses.min()),
            )
        }
        requireViewById<ChartView>(R.id.memory).apply {
            lineColor = getColor(R.color.chart_memory)
            fromZero = true
            markHighest = true
            format = { Numbers.bytes(it.toLong()) }
            budgetLabel = getString(R.string.chart_budget, Numbers.bytes(trace.availableKib * 1024))
            val peaks = FloatArray(trace.steps.size) { trace.steps[it].peakKib * 1024f }
            show(LongArray(peaks.size) { trace.steps[it].step }, peaks, trace.availableKib.takeIf { it > 0 }?.let { it * 1024f })
            contentDescription = if (peaks.isEmpty()) getString(R.string.chart_empty) else getString(
                R.string.chart_memory_spoken, peaks.size, Numbers.bytes(trace.peakKib * 1024), Numbers.bytes(trace.availableKib * 1024),
            )
        }
    }

    private fun showFigures(run: Run, active: ActiveRun?, trace: TraceSummary, step: Long) {
        val steps = run.settings.steps.toLong()
        val conditions = app.conditions.read()
        val rows = buildList {
            add(R.string.figure_step to getString(R.string.figure_step_value, Numbers.count(step), Numbers.count(steps)))
            val seconds = trace.secondsPerStep
            if (seconds != null && step < steps && active != null) add(R.string.figure_left to Numbers.duration(seconds * (steps - step)))
            if (seconds != null) {
                val speed = Numbers.perSecond(trace.tokensPerSecond ?: 0.0)
                add(R.string.figure_speed to getString(R.string.figure_speed_value, speed, Numbers.seconds(seconds)))
            }
            trace.lastStep?.let {
                val lowest = trace.steps.mapNotNull(TraceStep::loss).min()
                add(R.string.figure_loss to getString(R.string.figure_loss_value, Numbers.loss(it.loss), Numbers.loss(lowest)))
            }
            trace.evaluations.lastOrNull()?.let { (at, loss) ->
                add(R.string.figure_held_out to getString(R.string.figure_held_out_value, Numbers.loss(loss), Numbers.count(at)))
            }
            if (trace.peakKib > 0) {
                val peak = Numbers.bytes(trace.peakKib * 1024)
                val free = Numbers.bytes(conditions.freeMb * 1_000_000)
                add(R.string.figure_peak to if (conditions.freeMb > 0) getString(R.string.figure_peak_value, peak, free) else peak)
            }
            conditions.batteryLevel?.let {
                val charging = getString(if (conditions.charging) R.string.charging else R.string.not_charging)
                add(R.string.figure_battery to getString(R.string.figure_battery_value, it, charging))
            }
            conditions.batteryCelsius?.let { add(R.string.figure_temperature to getString(R.string.figure_temperature_value, Numbers.celsius(it))) }
            val set = run.settings
            val rate = Numbers.rate(set.learningRate)
            add(R.string.figure_settings to getString(R.string.figure_settings_value, set.optimizer, rate, sequences(set.gradientAccumulation)))
        }
        // Two columns of a large font leave no room for words.
        val stacked = resources.configuration.fontScale > LARGE_FONT
        val table = requireViewById<ViewGroup>(R.id.figures)
        while (table.childCount > rows.size) table.removeViewAt(table.childCount - 1)
        while (table.childCount < rows.size) layoutInflater.inflate(R.layout.item_figure, table)
        rows.forEachIndexed { index, (label, value) ->
            val row = table.getChildAt(index) as LinearLayout
            if (stacked) row.stack()
            row.requireViewById<TextView>(R.id.label).setText(label)
            row.requireViewById<TextView>(R.id.value).apply { if (text.toString() != value) text = value }
        }
    }

    private fun LinearLayout.stack() {
        if (orientation == LinearLayout.VERTICAL) return
        orientation = LinearLayout.VERTICAL
        for (index in 0 until childCount) {
            getChildAt(index).layoutParams =
                LinearLayout.LayoutParams(LinearLayout.LayoutParams.MATCH_PARENT, LinearLayout.LayoutParams.WRAP_CONTENT)
        }
    }

    private fun showAdapter(run: Run) {
        val there = run.adapter.isFile
        text(R.id.adapter_place).text =
            if (there) getString(R.string.adapter_place, run.adapter.name, name) else getString(R.string.adapter_none)
        text(R.id.adapter_command).message(if (there) getString(R.string.adapter_command, name) else null)
        requireViewById<View>(R.id.export).visible(there)
    }

    private fun export() {
        val run = app.runs.find(name) ?: return
        if (RunExport.needsPicker) {
            val pick = Intent(Intent.ACTION_CREATE_DOCUMENT).addCategory(Intent.CATEGORY_OPENABLE)
            startActivityForResult(pick.setType(RunExport.TYPE).putExtra(Intent.EXTRA_TITLE, "$name.zip"), PICK)
        } else {
            write(run, null)
        }
    }

    @Deprecated("The platform's own way without androidx")
    override fun onActivityResult(requestCode: Int, resultCode: Int, data: Intent?) {
        val target = data?.data
        if (requestCode == PICK && resultCode == RESULT_OK && target != null) app.runs.find(name)?.let { write(it, target) }
    }

    private fun write(run: Run, target: Uri?) = inBackground({
        try {
            getString(R.string.export_done, RunExport(this).write(run, target))
        } catch (error: AppException) {
            error.message
        }
    }) { Toast.makeText(this, it, Toast.LENGTH_LONG).show() }

    private fun askToDelete() {
        if (app.controller.active?.name == name) {
            Toast.makeText(this, R.string.delete_active, Toast.LENGTH_LONG).show()
            return
        }
        AlertDialog.Builder(this).setMessage(getString(R.string.delete_run_question, name))
            .setNegativeButton(R.string.cancel, null)
            .setPositiveButton(R.string.delete) { _, _ ->
                if (app.controller.active?.name != name) app.runs.delete(name)
                finish()
            }.show()
    }

    companion object {
        private const val NAME = "name"
        private const val PICK = 1
        private const val LARGE_FONT = 1.4f

        fun intent(context: Context, name: String): Intent =
            Intent(context, RunActivity::class.java).putExtra(NAME, name)
    }
}
