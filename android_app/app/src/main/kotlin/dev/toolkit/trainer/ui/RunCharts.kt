package dev.toolkit.trainer.ui

import android.app.AlertDialog
import android.view.View
import android.widget.Button
import dev.toolkit.trainer.R
import dev.toolkit.trainer.store.TraceSummary
import dev.toolkit.trainer.ui.Screen.Companion.visible

/** The curves of a run's page, also as tables. */
class RunCharts(private val screen: Screen, private val root: View) {
    /** What is drawn of a trace; made off the main thread, for a night has many steps. */
    class Curves(trace: TraceSummary) {
        private val points = trace.steps.filter { it.loss != null }
        val lossSteps = LongArray(points.size) { points[it].step }
        val losses = FloatArray(points.size) { points[it].loss!! }
        val steps = LongArray(trace.steps.size) { trace.steps[it].step }
        val peaks = FloatArray(trace.steps.size) { trace.steps[it].peakKib * 1024f }
        val peakBytes = trace.peakKib * 1024
        val availableBytes = trace.availableKib * 1024
    }

    fun show(curves: Curves) {
        val losses = curves.losses
        val peaks = curves.peaks
        // One step is a dot.
        for (id in listOf(R.id.charts, R.id.memory_card)) root.requireViewById<View>(id).visible(peaks.size > 1)
        root.requireViewById<View>(R.id.charts_empty).visible(peaks.size < 2)
        root.requireViewById<ChartView>(R.id.loss).apply {
            lineColor = screen.getColor(R.color.chart_loss)
            format = { Numbers.axis(it) }
            show(curves.lossSteps, losses)
            asTable(R.id.loss_table, R.string.loss, curves.lossSteps, losses) { value -> Numbers.loss(value) }
            contentDescription = if (losses.isEmpty()) screen.getString(R.string.chart_empty) else screen.getString(
                R.string.chart_loss_spoken, losses.size, Numbers.loss(losses.first()), Numbers.loss(losses.last()), Numbers.loss(losses.min()),
            )
        }
        root.requireViewById<ChartView>(R.id.memory).apply {
            lineColor = screen.getColor(R.color.chart_memory)
            fromZero = true
            markHighest = true
            format = { Numbers.bytes(it.toLong()) }
            budgetLabel = screen.getString(R.string.chart_budget, Numbers.bytes(curves.availableBytes))
            show(curves.steps, peaks, curves.availableBytes.takeIf { it > 0 }?.toFloat())
            asTable(R.id.memory_table, R.string.memory, curves.steps, peaks) { value -> Numbers.bytes(value.toLong()) }
            contentDescription = if (peaks.isEmpty()) screen.getString(R.string.chart_empty) else screen.getString(
                R.string.chart_memory_spoken, peaks.size, Numbers.bytes(curves.peakBytes), Numbers.bytes(curves.availableBytes),
            )
        }
    }

    /** The same in words, for those who do not see it. */
    private fun asTable(button: Int, title: Int, steps: LongArray, values: FloatArray, write: (Float) -> String) {
        root.requireViewById<Button>(button).setOnClickListener {
            val rows = ChartView.rows(values.size).map { screen.getString(R.string.chart_row, Numbers.count(steps[it]), write(values[it])) }
            AlertDialog.Builder(screen).setTitle(title).setMessage(rows.joinToString("\n")).setPositiveButton(R.string.close, null).show()
        }
    }
}
