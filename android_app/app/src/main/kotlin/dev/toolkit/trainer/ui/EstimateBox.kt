package dev.toolkit.trainer.ui

import android.widget.Button
import dev.toolkit.trainer.R
import dev.toolkit.trainer.TrainerApp
import dev.toolkit.trainer.store.Bundle
import dev.toolkit.trainer.store.DataSet
import dev.toolkit.trainer.store.Estimates
import dev.toolkit.trainer.store.RunSettings
import dev.toolkit.trainer.ui.Screen.Companion.allow
import dev.toolkit.trainer.ui.Screen.Companion.message
import dev.toolkit.trainer.ui.Screen.Companion.visible
import kotlin.math.roundToInt
import kotlin.math.roundToLong

/** What a run will take on this phone, or how to find out. */
class EstimateBox(private val screen: Screen) {
    fun show(settings: RunSettings, data: DataSet, bundle: Bundle, engine: Boolean, storage: Long) {
        val app = TrainerApp.of(screen)
        val cost = app.estimates.find(bundle, data.sequenceLength, settings.gradientAccumulation)
        val passes = settings.steps.toDouble() * settings.gradientAccumulation / data.sequences
        val shown = if (passes < 9.95) Numbers.axis((passes * 10).roundToInt() / 10f) else Numbers.count(passes.roundToLong())
        val lines = mutableListOf(screen.getString(R.string.estimate_steps, Numbers.count(settings.steps.toLong()), shown))
        if (cost == null) {
            lines += screen.getString(R.string.estimate_unknown)
        } else {
            val estimate = Estimates.of(settings, data, bundle, cost)
            lines += screen.getString(
                R.string.estimate, Numbers.duration(estimate.seconds), Numbers.bytes(estimate.peakBytes), Numbers.bytes(estimate.storageBytes),
                estimate.batteryPercent.first, estimate.batteryPercent.last,
            )
            val free = app.conditions.read().freeMb * 1_000_000
            if (estimate.peakBytes > free) lines += screen.getString(R.string.estimate_tight, Numbers.bytes(free))
            if (estimate.storageBytes > storage) lines += screen.getString(R.string.estimate_storage, Numbers.bytes(storage))
        }
        if (data.hasValidation) lines += screen.getString(R.string.held_back)
        screen.requireViewById<android.widget.TextView>(R.id.estimate).message(lines.joinToString("\n"))
        screen.requireViewById<Button>(R.id.measure).apply {
            visible(cost == null)
            val trying = app.trying.running
            setText(if (trying) R.string.measuring else R.string.measure)
            val active = app.controller.active?.takeIf { cost == null && !trying }
            allow(engine && !trying, screen.requireViewById(R.id.measure_why), active?.let { screen.getString(R.string.run_active, it.name) })
        }
    }
}
