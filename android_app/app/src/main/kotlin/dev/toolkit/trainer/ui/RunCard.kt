package dev.toolkit.trainer.ui

import android.content.Context
import android.view.View
import android.widget.ImageButton
import android.widget.ProgressBar
import android.widget.TextView
import dev.toolkit.trainer.R
import dev.toolkit.trainer.engine.Engine
import dev.toolkit.trainer.service.ActiveRun
import dev.toolkit.trainer.service.Doing
import dev.toolkit.trainer.service.TrainingService
import dev.toolkit.trainer.store.Run
import dev.toolkit.trainer.store.RunState
import dev.toolkit.trainer.store.TraceStep
import dev.toolkit.trainer.ui.Screen.Companion.visible

/** A run in words, the same in the list and on its page. */
object RunText {
    fun status(context: Context, run: Run, active: ActiveRun?): String {
        if (active != null) return activeStatus(context, active)
        return when (run.state) {
            RunState.RUNNING, RunState.WAITING -> context.getString(R.string.state_interrupted)
            RunState.PAUSED -> context.getString(if (run.trace.exists()) R.string.state_paused else R.string.state_new)
            RunState.STOPPED -> context.getString(R.string.state_stopped)
            RunState.COMPLETED -> context.getString(R.string.state_completed)
            RunState.FAILED -> context.getString(R.string.state_failed)
        }
    }

    private fun activeStatus(context: Context, active: ActiveRun): String = when (active.doing) {
        Doing.OPENING -> context.getString(R.string.opening)
        Doing.SAVING -> context.getString(R.string.saving)
        Doing.ENDING -> ending(context, active)
        Doing.WAITING -> active.waiting?.text.orEmpty()
        Doing.TRAINING -> context.getString(if ((active.progress?.step ?: 0) > 0) R.string.state_training else R.string.first_step)
    }

    /** A step of a large model takes a while, and its time is known from the last one. */
    fun ending(context: Context, active: ActiveRun): String {
        val seconds = active.progress?.takeIf { it.step > 0 }?.seconds ?: 0.0
        return if (seconds < LONG_STEP) context.getString(R.string.ending)
        else context.getString(R.string.ending_in, Numbers.duration(seconds))
    }

    private const val LONG_STEP = 3

    fun canStart(run: Run): Boolean = run.state != RunState.COMPLETED

    /** What starting is called: a run without a trace was never started. */
    fun startLabel(run: Run): Int = if (run.trace.exists()) R.string.resume else R.string.start
}

/** Shows a run in the list. */
class RunCard(private val view: View) {
    fun show(run: Run, active: ActiveRun?, last: TraceStep?) {
        val context = view.context
        val progress = active?.progress
        // A run whose process was killed is further in its trace than in its record.
        val step = progress?.step ?: maxOf(run.step, last?.step ?: 0L)
        view.requireViewById<TextView>(R.id.name).text = run.name
        view.requireViewById<TextView>(R.id.details).text = context.getString(R.string.run_details, run.bundle, run.data)
        val loss = progress?.takeIf { it.step > 0 }?.loss?.toFloat() ?: last?.loss
        val parts = mutableListOf(RunText.status(context, run, active))
        if (step > 0) parts += context.getString(R.string.at_step, Numbers.count(step), Numbers.count(run.settings.steps.toLong()))
        if (loss != null) parts += context.getString(R.string.last_loss, Numbers.loss(loss))
        view.requireViewById<TextView>(R.id.status).apply {
            text = parts.joinToString(" · ")
            setTextColor(context.getColor(if (active == null && run.state == RunState.FAILED) R.color.error else R.color.text))
        }
        view.requireViewById<ProgressBar>(R.id.progress).apply {
            visible(run.state != RunState.COMPLETED)
            max = run.settings.steps
            this.progress = step.toInt()
            isIndeterminate = active?.doing == Doing.OPENING
        }
        showAction(run, active)
        showStop(run, active)
    }

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
