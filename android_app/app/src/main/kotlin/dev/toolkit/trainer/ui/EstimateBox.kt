package dev.toolkit.trainer.ui

import android.os.Handler
import android.os.Looper
import android.view.View
import android.widget.Button
import android.widget.TextView
import dev.toolkit.trainer.R
import dev.toolkit.trainer.TrainerApp
import dev.toolkit.trainer.engine.EngineException
import dev.toolkit.trainer.store.AppException
import dev.toolkit.trainer.store.Bundle
import dev.toolkit.trainer.store.DataSet
import dev.toolkit.trainer.store.Estimates
import dev.toolkit.trainer.store.Needs
import dev.toolkit.trainer.store.RunSettings
import dev.toolkit.trainer.ui.Screen.Companion.allow
import dev.toolkit.trainer.ui.Screen.Companion.message
import dev.toolkit.trainer.ui.Screen.Companion.visible
import org.json.JSONException
import kotlin.math.roundToInt
import kotlin.math.roundToLong

/**
 * What a run will take on this phone. Memory and storage the engine tells of any settings, a moment after they were changed; time and
 * battery come from steps that were measured, or there is a button to measure some.
 */
class EstimateBox(private val screen: Screen) {
    /** [settings] with the threads of the phone's. */
    private data class Run(val settings: RunSettings, val data: DataSet, val bundle: Bundle)

    /** What the engine said: needs, or why this cannot be trained. */
    private class Answer(val run: Run, val needs: Needs?, val problem: String)

    private val app = TrainerApp.of(screen)
    private val main = Handler(Looper.getMainLooper())
    @Volatile private var asked: Run? = null

    /** Ends what the engine is asked. */
    @Volatile private var end: () -> Unit = {}

    /** The last one is shown until there is the next; [answered] is what it is still true of. */
    private var answer: Answer? = null
    private var answered: Run? = null
    private var again: () -> Unit = {}

    fun show(settings: RunSettings, data: DataSet, bundle: Bundle, engine: Boolean, storage: Long) {
        val run = Run(settings.copy(threads = app.policy.read().threads), data, bundle)
        again = { show(settings, data, bundle, engine, storage) }
        if (engine && answered != run && asked != run) ask(run)
        val cost = app.estimates.find(bundle, data.sequenceLength, settings.gradientAccumulation)
        val passes = settings.steps.toDouble() * settings.gradientAccumulation / data.sequences
        val shown = if (passes < 9.95) Numbers.axis((passes * 10).roundToInt() / 10f) else Numbers.count(passes.roundToLong())
        val lines = mutableListOf(screen.getString(R.string.estimate_steps, Numbers.count(settings.steps.toLong()), shown))
        answer?.let { lines += needs(it, storage) }
        lines += if (cost == null) {
            screen.getString(if (app.trying.running) R.string.measuring else R.string.estimate_unknown)
        } else {
            val estimate = Estimates.of(settings, data, cost)
            screen.getString(
                R.string.estimate_time, Numbers.duration(estimate.seconds), estimate.batteryPercent.first, estimate.batteryPercent.last,
            )
        }
        if (data.hasValidation) lines += screen.getString(R.string.held_back)
        screen.requireViewById<TextView>(R.id.estimate).run {
            // TalkBack reads what changes here, but not with every key.
            accessibilityLiveRegion = if (engine && answered != run) View.ACCESSIBILITY_LIVE_REGION_NONE else View.ACCESSIBILITY_LIVE_REGION_POLITE
            message(lines.joinToString("\n"))
        }
        showButton(known = cost != null, engine)
    }

    private fun showButton(known: Boolean, engine: Boolean) = screen.requireViewById<Button>(R.id.measure).run {
        val trying = app.trying.running
        visible(!known || trying)
        setText(if (trying) R.string.measuring_cancel else R.string.measure)
        val active = app.controller.active?.takeIf { !known && !trying }
        allow(engine, screen.requireViewById(R.id.measure_why), active?.let { screen.getString(R.string.run_active, it.name) })
    }

    private fun needs(answer: Answer, storage: Long): List<String> {
        val needs = answer.needs ?: return listOf(answer.problem)
        val stored = needs.storageBytes + Estimates.traceBytes(answer.run.settings)
        val free = app.conditions.read().freeMb * 1_000_000
        return listOfNotNull(
            screen.getString(R.string.estimate_needs, Numbers.bytes(needs.peakBytes), Numbers.bytes(stored)),
            if (needs.moreBytes > free) screen.getString(R.string.estimate_tight, Numbers.bytes(free)) else null,
            if (stored > storage) screen.getString(R.string.estimate_storage, Numbers.bytes(storage)) else null,
        )
    }

    /** Once nothing was changed for a moment: the engine takes some tenths of a second. While somebody has it, later. */
    private fun ask(run: Run, milliseconds: Long = MOMENT) {
        rest()
        asked = run
        main.postDelayed({ screen.inBackground({ find(run) }) { found(run, it) } }, milliseconds)
    }

    private fun found(run: Run, found: Answer?) {
        if (asked != run) return
        if (found == null) return ask(run, LATER)
        asked = null
        answer = found
        answered = run
        // All of it, also what changed with the keys before.
        screen.requireViewById<TextView>(R.id.estimate).text = ""
        again()
    }

    /** Null while the engine is not to be had. */
    private fun find(run: Run): Answer? = try {
        val needs = app.controller.needs(run.bundle, run.data, run.settings) { stop ->
            end = stop
            if (asked != run) stop()
        }
        Answer(run, needs, "")
    } catch (_: AppException) {
        null
    } catch (error: EngineException) {
        if (error.status == EngineException.KILLED) null else Answer(run, null, error.message.orEmpty().replaceFirstChar(Char::uppercase))
    } catch (_: JSONException) {
        null
    }

    /** Asks no more, and anew when the screen is seen again: other things were free, or set, then. */
    fun rest() {
        main.removeCallbacksAndMessages(null)
        asked = null
        answered = null
        end()
    }

    private companion object {
        const val MOMENT = 250L
        const val LATER = 2_000L
    }
}
