package dev.toolkit.trainer.service

import dev.toolkit.trainer.engine.Progress
import dev.toolkit.trainer.policy.Waiting

/** What the run that is held by this process does just now. */
enum class Doing { OPENING, TRAINING, ENDING, SAVING, WAITING }

/** Why a run was not started; [fromComputer] when the desk had asked for it. */
data class Refusal(val run: String?, val reason: String, val fromComputer: Boolean = false)

/** A moment of the active run. */
data class ActiveRun(val name: String, val doing: Doing, val waiting: Waiting?, val progress: Progress?) {
    /** Whether it was told to end, so that telling it again changes nothing. */
    val isEnding get() = doing == Doing.ENDING || doing == Doing.SAVING
}
