package dev.toolkit.trainer.service

import dev.toolkit.trainer.engine.Progress
import dev.toolkit.trainer.policy.Hold
import dev.toolkit.trainer.policy.Hours
import dev.toolkit.trainer.policy.Waiting
import java.util.Calendar

/** What the run that is held by this process does just now; [FULL]: its engine waits for room in the storage, and goes on by itself. */
enum class Doing { OPENING, TRAINING, FULL, ENDING, SAVING, WAITING }

/** Why a run was not started; [fromComputer] when the desk had asked for it, [blocker] is the run that was active. */
class Refusal(val run: String?, val reason: String, val fromComputer: Boolean = false, val blocker: String? = null)

/** A moment of the active run. */
data class ActiveRun(
    val name: String,
    val doing: Doing,
    val waiting: Waiting?,
    val progress: Progress?,
    /** Since when it waits, in milliseconds of the clock; 0 while it does not. */
    val since: Long = 0,
    /** Of a step, on average; null before the second one. */
    val secondsPerStep: Double? = null,
) {
    override fun toString() = "$name $doing"

    /** Whether it was told to end, so that telling it again changes nothing. */
    val isEnding get() = doing == Doing.ENDING || doing == Doing.SAVING

    val isWaiting get() = doing == Doing.WAITING || doing == Doing.FULL

    val percent: Int? get() = progress?.takeIf { it.steps > 0 }?.let { (100 * it.step / it.steps).toInt() }

    val secondsLeft: Double? get() = secondsPerStep?.let { it * ((progress ?: return null).run { steps - step }) }

    /** Whether the user may let it train in spite of what it waits for. */
    val canGoOn get() = doing == Doing.WAITING && waiting != null && waiting.hold != Hold.THERMAL

    /** Whether the user can do something about what it waits for. */
    val hasWayOut get() = canGoOn || doing == Doing.FULL

    /** When it will be done if nothing but the hours keeps it from training, in milliseconds of the clock; null: unknown. */
    fun doneAt(hours: Hours?, now: Calendar): Long? {
        val left = secondsLeft?.takeIf { doing != Doing.OPENING && doing != Doing.FULL } ?: return null
        if (hours == null || waiting != null && waiting.hold != Hold.HOURS) return now.timeInMillis + (left * 1000).toLong()
        val minute = now.get(Calendar.HOUR_OF_DAY) * 60 + now.get(Calendar.MINUTE)
        return now.timeInMillis + hours.until(minute, Math.round(left / 60)) * 60_000
    }
}
