package dev.toolkit.trainer.ui

import android.content.Context
import android.content.Intent
import android.provider.Settings
import android.view.View
import android.widget.Button
import android.widget.ImageButton
import android.widget.ProgressBar
import android.widget.TextView
import dev.toolkit.trainer.R
import dev.toolkit.trainer.TrainerApp
import dev.toolkit.trainer.engine.Engine
import dev.toolkit.trainer.policy.Hold
import dev.toolkit.trainer.service.ActiveRun
import dev.toolkit.trainer.service.Doing
import dev.toolkit.trainer.service.Refusal
import dev.toolkit.trainer.service.TrainingService
import dev.toolkit.trainer.store.Outcome
import dev.toolkit.trainer.store.Run
import dev.toolkit.trainer.store.RunState
import dev.toolkit.trainer.store.TraceStep
import dev.toolkit.trainer.ui.Screen.Companion.message
import dev.toolkit.trainer.ui.Screen.Companion.visible
import java.util.Calendar

/** A run in words, the same in the list and on its page. */
object RunText {
    fun status(context: Context, run: Run, active: ActiveRun?): String {
        if (active != null) return activeStatus(context, active)
        return when (run.state) {
            RunState.RUNNING, RunState.WAITING -> context.getString(R.string.state_interrupted)
            RunState.PAUSED -> context.getString(if (run.begun) R.string.state_paused else R.string.state_new)
            RunState.STOPPED -> context.getString(R.string.state_stopped)
            RunState.COMPLETED -> context.getString(R.string.state_completed)
            RunState.FAILED -> context.getString(R.string.state_failed)
        }
    }

    private fun activeStatus(context: Context, active: ActiveRun): String = when (active.doing) {
        Doing.OPENING -> context.getString(R.string.opening)
        Doing.SAVING -> context.getString(R.string.saving)
        Doing.ENDING -> context.getString(R.string.ending)
        Doing.FULL -> context.getString(R.string.wait_storage)
        Doing.WAITING -> active.waiting?.text.orEmpty()
        Doing.TRAINING -> training(context, active)
    }

    /** Changes at every quarter, and TalkBack reads what changes. */
    private fun training(context: Context, active: ActiveRun): String {
        val quarters = (active.percent ?: 0) / QUARTER
        return when {
            (active.progress?.step ?: 0) == 0L -> context.getString(R.string.first_step)
            quarters in 1..3 -> context.getString(R.string.state_training_past, quarters * QUARTER)
            else -> context.getString(R.string.state_training)
        }
    }

    private const val QUARTER = 25

    /** "42 %, done about 06:40"; null before anything is known. */
    fun ahead(context: Context, active: ActiveRun): String? {
        val percent = active.percent ?: return null
        val done = active.doneAt(TrainerApp.of(context).policy.read().hours, Calendar.getInstance())
        // Nobody knows when there will be a charger or room in memory.
        val open = active.doing == Doing.WAITING && active.waiting?.hold != Hold.HOURS
        return if (done == null || open || active.isEnding) context.getString(R.string.percent, percent)
        else context.getString(R.string.percent_done_about, percent, Numbers.moment(context, done))
    }

    fun since(context: Context, active: ActiveRun): String? =
        if (active.since == 0L) null else context.getString(R.string.since, Numbers.moment(context, active.since))

    /** What the way out of a wait is called. */
    fun goOn(active: ActiveRun): Int = when (active.waiting?.hold) {
        Hold.CHARGER -> R.string.go_on_battery
        Hold.HOURS -> R.string.go_on_now
        else -> R.string.go_on_anyway
    }

    /** "Your texts surprise the model 42 % less; best after 120 steps". */
    fun outcome(context: Context, outcome: Outcome): String = when {
        outcome.percent < 1 && outcome.heldOut -> context.getString(R.string.outcome_none)
        outcome.percent < 1 -> context.getString(R.string.outcome_none_learned)
        outcome.heldOut -> context.getString(R.string.outcome_held_out, outcome.percent, Numbers.count(outcome.bestStep))
        else -> context.getString(R.string.outcome_learned, outcome.percent)
    }

    /** Why a run was not started; that another one was in the way may be over. */
    fun reason(context: Context, refusal: Refusal, active: ActiveRun?): String =
        if (refusal.blocker == null || refusal.blocker == active?.name) refusal.reason else context.getString(R.string.run_was_active, refusal.blocker)

    /** Whether it failed, or was ended without a save; why one waits, it says while it does. */
    fun hasReason(run: Run): Boolean = run.reason.isNotEmpty() && run.state != RunState.WAITING

    /** Why it failed; what helps against a full storage in the app's language, in place of the engine's words for it. */
    fun reason(context: Context, run: Run): String {
        val words = run.reason.replaceFirstChar(Char::uppercase)
        val cause = words.replace(ENGINE_REMEDY, "")
        return if (cause == words) words else "$cause. ${context.getString(R.string.free_space)}"
    }

    /** toolkit/runtime/engine/error.h; what follows says which step is kept. */
    private const val ENGINE_REMEDY = ". Free\u0020some\u0020storage\u0020and\u0020resume"

    fun canStart(run: Run): Boolean = run.state != RunState.COMPLETED

    /** What starting is called: a run without a trace was never started. */
    fun startLabel(run: Run): Int = if (run.begun) R.string.resume else R.string.start
}

/** Shows what the user can do about what a run waits for, if there is anything. */
fun Button.wayOut(screen: Screen, active: ActiveRun?) {
    visible(active?.hasWayOut == true)
    if (active == null) return
    val full = active.doing == Doing.FULL
    setText(if (full) R.string.manage_storage else RunText.goOn(active))
    setOnClickListener {
        if (full) screen.openSettings(Intent(Settings.ACTION_INTERNAL_STORAGE_SETTINGS))
        else TrainingService.start(screen, TrainingService.GO_ON, active.name)
    }
}

/** Shows a run in the list. */
class RunCard(private val view: View, private val share: (Run) -> Unit, private val prolong: (Run) -> Unit, private val delete: (Run) -> Unit) {
    /** @param announces whether TalkBack reads out what changes here: every quarter of the active run, and what it waits for */
    fun show(run: Run, active: ActiveRun?, last: TraceStep?, model: String, announces: Boolean) {
        val context = view.context
        // A run whose process was killed is further in its trace than in its record.
        val step = active?.progress?.step ?: maxOf(run.step, last?.step ?: 0L)
        text(R.id.name).text = run.name
        text(R.id.details).text = context.getString(R.string.run_details, model, run.data)
        text(R.id.ahead).message(active?.let { RunText.ahead(context, it) })
        text(R.id.status).apply {
            accessibilityLiveRegion = if (announces && active != null) View.ACCESSIBILITY_LIVE_REGION_POLITE else View.ACCESSIBILITY_LIVE_REGION_NONE
            message(status(run, active, step))
            setTextColor(context.getColor(if (active == null && run.state == RunState.FAILED) R.color.error else R.color.text))
        }
        view.requireViewById<ProgressBar>(R.id.progress).apply {
            visible(run.state != RunState.COMPLETED && (active != null || step > 0))
            max = run.settings.steps
            this.progress = step.toInt()
            isIndeterminate = active?.doing == Doing.OPENING
        }
        view.requireViewById<Button>(R.id.go_on).wayOut(context as Screen, active)
        view.requireViewById<View>(R.id.next).visible(active == null && run.state == RunState.COMPLETED)
        view.requireViewById<View>(R.id.ask).apply {
            visible(active == null && run.state == RunState.COMPLETED)
            setOnClickListener { context.startActivity(AskActivity.intent(context, run.name)) }
        }
        view.requireViewById<View>(R.id.share).setOnClickListener { share(run) }
        view.requireViewById<View>(R.id.longer).setOnClickListener { prolong(run) }
        view.requireViewById<View>(R.id.delete_run).apply {
            visible(active == null && run.state == RunState.COMPLETED)
            contentDescription = context.getString(R.string.delete_run_named, run.name)
            setOnClickListener { delete(run) }
        }
        showAction(run, active)
        showStop(run, active)
    }

    private fun status(run: Run, active: ActiveRun?, step: Long): String {
        val context = view.context
        val at = context.getString(R.string.at_step, Numbers.count(step), Numbers.count(run.settings.steps.toLong()))
        val parts = listOfNotNull(
            RunText.status(context, run, active),
            active?.let { RunText.since(context, it) },
            if (step > 0 && active == null && run.state != RunState.COMPLETED) at else null,
            run.outcome?.takeIf { active == null }?.let { RunText.outcome(context, it) },
            RunText.reason(context, run).takeIf { active == null && RunText.hasReason(run) },
        )
        return parts.joinToString("\n")
    }

    private fun text(id: Int): TextView = view.requireViewById(id)

    private fun showStop(run: Run, active: ActiveRun?) {
        val button = view.requireViewById<ImageButton>(R.id.stop)
        button.visible(active != null)
        button.isEnabled = active?.isEnding != true
        button.contentDescription = view.context.getString(R.string.stop_run, run.name)
        button.setOnClickListener { TrainingService.start(view.context, TrainingService.STOP, run.name) }
    }

    private fun showAction(run: Run, active: ActiveRun?) {
        val context = view.context
        val button = view.requireViewById<ImageButton>(R.id.action)
        button.visible(active != null || RunText.canStart(run))
        button.isEnabled = active?.isEnding != true && Engine.available
        if (active != null) {
            button.setImageResource(R.drawable.ic_pause)
            button.contentDescription = context.getString(R.string.pause_run, run.name)
            button.setOnClickListener { TrainingService.start(context, TrainingService.PAUSE, run.name) }
        } else {
            button.setImageResource(R.drawable.ic_play)
            val label = if (RunText.startLabel(run) == R.string.start) R.string.start_run else R.string.resume_run
            button.contentDescription = context.getString(label, run.name)
            button.setOnClickListener { TrainingService.start(context, TrainingService.START, run.name) }
        }
    }
}
