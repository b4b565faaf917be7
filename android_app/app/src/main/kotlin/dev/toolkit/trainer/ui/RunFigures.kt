package dev.toolkit.trainer.ui

import android.view.ViewGroup
import android.widget.LinearLayout
import android.widget.TextView
import dev.toolkit.trainer.R
import dev.toolkit.trainer.TrainerApp
import dev.toolkit.trainer.service.ActiveRun
import dev.toolkit.trainer.store.Run
import dev.toolkit.trainer.store.TraceStep
import dev.toolkit.trainer.store.TraceSummary

/** The table of a run's figures. */
class RunFigures(private val screen: Screen, private val table: ViewGroup) {
    fun show(run: Run, active: ActiveRun?, trace: TraceSummary, step: Long, storage: Pair<Long, Long>) {
        val steps = run.settings.steps.toLong()
        val conditions = TrainerApp.of(screen).conditions.read()
        val rows = ArrayList<Pair<Int, String>>().apply {
            add(R.string.figure_step to screen.getString(R.string.figure_step_value, Numbers.count(step), Numbers.count(steps)))
            val seconds = trace.secondsPerStep
            if (seconds != null && step < steps && active != null) add(R.string.figure_left to Numbers.duration(seconds * (steps - step)))
            if (seconds != null) {
                val speed = Numbers.perSecond(trace.tokensPerSecond ?: 0.0)
                add(R.string.figure_speed to screen.getString(R.string.figure_speed_value, speed, Numbers.seconds(seconds)))
            }
            trace.lastStep?.let {
                val lowest = trace.steps.mapNotNull(TraceStep::loss).min()
                add(R.string.figure_loss to screen.getString(R.string.figure_loss_value, Numbers.loss(it.loss), Numbers.loss(lowest)))
            }
            trace.evaluations.lastOrNull()?.let { (at, loss) ->
                add(R.string.figure_held_out to screen.getString(R.string.figure_held_out_value, Numbers.loss(loss), Numbers.count(at)))
            }
            if (trace.peakKib > 0) {
                val peak = Numbers.bytes(trace.peakKib * 1024)
                val free = Numbers.bytes(conditions.freeMb * 1_000_000)
                add(R.string.figure_peak to if (conditions.freeMb > 0 && active != null) screen.getString(R.string.figure_peak_value, peak, free) else peak)
            }
            if (trace.stateBytes > 0) add(R.string.figure_state to screen.getString(R.string.figure_state_value, Numbers.bytes(trace.stateBytes)))
            // Of now, which says nothing of a run that is over.
            if (active != null) conditions.batteryLevel?.let {
                val charging = screen.getString(if (conditions.charging) R.string.charging else R.string.not_charging)
                add(R.string.figure_battery to screen.getString(R.string.figure_battery_value, it, charging))
            }
            if (active != null) conditions.batteryCelsius?.let { add(R.string.figure_temperature to screen.getString(R.string.figure_temperature_value, Numbers.celsius(it))) }
            add(R.string.figure_storage to screen.getString(R.string.figure_storage_value, Numbers.bytes(storage.first), Numbers.bytes(storage.second)))
            val set = run.settings
            val rate = Numbers.rate(set.learningRate)
            add(R.string.figure_settings to screen.getString(R.string.figure_settings_value, set.optimizer, rate, screen.sequences(set.gradientAccumulation)))
        }
        // Two columns of a large font leave no room for words.
        val stacked = screen.resources.configuration.fontScale > LARGE_FONT
        while (table.childCount > rows.size) table.removeViewAt(table.childCount - 1)
        while (table.childCount < rows.size) screen.layoutInflater.inflate(R.layout.item_figure, table)
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

    private companion object {
        const val LARGE_FONT = 1.4f
    }
}
