package dev.toolkit.trainer.service

import android.os.SystemClock
import android.util.Log
import dev.toolkit.trainer.R
import dev.toolkit.trainer.Words
import dev.toolkit.trainer.engine.Engine
import dev.toolkit.trainer.engine.EngineException
import dev.toolkit.trainer.policy.Hold
import dev.toolkit.trainer.policy.Waiting
import dev.toolkit.trainer.store.AppException
import dev.toolkit.trainer.store.Run
import dev.toolkit.trainer.store.RunState
import java.io.File

/** How often a run may be ended from outside before anything new is saved. */
internal const val MOST_ATTEMPTS = 3

/**
 * Trains a run from its start to its end, a pause or a failure, on the thread that calls [work].
 *
 * @param decide what the policy says, by what was waited for, the memory that the run will take, and whether its engine was ended before
 */
internal class Training(
    private val seat: Seat, private val records: RunRecords, private val guests: Guests,
    private val decide: (held: Hold?, needMb: Long, killed: Boolean) -> Waiting?,
) {
    private val pace = Pace()

    /** Of the engine that is open, or was last: the step it saved last, and how often it was ended before that. */
    private var savedStep = 0L
    private var savedAt = 0L
    private var attempts = 0

    /** Why the run waits after its engine was ended from outside, and until when at least, in milliseconds since the phone started. */
    private var sinceKill: Waiting? = null
    private var killedUntil = 0L

    /** Whether the open engine took what its trace did not have yet. */
    private var told = false

    /** Whether a save of the engine that is open, or was last, found the storage full. */
    private var full = false

    fun work(started: Run) {
        var run = started
        var outcome = RunState.FAILED
        var reason = ""
        try {
            var waited: Waiting? = null
            while (true) {
                val permission = awaitPermission(run, waited)
                run = permission.first
                waited = permission.second
                val wish = seat.wish
                if (wish != Wish.TRAIN) {
                    run = run.copy(untold = run.untold + wish.words)
                    outcome = wish.after
                    break
                }
                run = records.write(run.copy(state = RunState.RUNNING, reason = ""))
                val held = try {
                    train(run, waited)
                } catch (error: EngineException) {
                    val killed = error.status == EngineException.KILLED
                    // It was told to end, and could not save.
                    val ended = full && (seat.held != null || seat.wish != Wish.TRAIN)
                    if (!killed && !ended) throw error
                    backToSave(run)
                    run = if (killed) waitAfterKill(run, error) else run.copy(step = savedStep, untold = emptyList(), peakMb = peakOf(run))
                    waited = if (killed) sinceKill else seat.held
                    if (killed || seat.wish == Wish.TRAIN) continue
                    reason = error.message.orEmpty()
                    outcome = seat.wish.after
                    break
                }
                run = run.copy(step = stepOf(run), untold = emptyList(), peakMb = peakOf(run), attempts = 0)
                if (held == null) {
                    outcome = if (seat.wish == Wish.TRAIN || finished()) RunState.COMPLETED else seat.wish.after
                    break
                }
                waited = held
            }
        } catch (error: EngineException) {
            reason = error.message ?: Words.of(R.string.unknown_failure)
        } catch (error: AppException) {
            reason = error.message ?: Words.of(R.string.unknown_failure)
        } catch (error: RuntimeException) {
            reason = Words.of(R.string.unexpected_failure, error.toString())
            Log.e(TAG, "run ${run.name}", error)
        } catch (error: OutOfMemoryError) {
            reason = Words.of(R.string.app_memory)
            Log.e(TAG, "run ${run.name}", error)
        } finally {
            // It has come to an end in its own way, so it is not what ends the process.
            try {
                run = run.copy(step = stepOf(run), peakMb = peakOf(run), attempts = 0)
                if (outcome == RunState.COMPLETED || outcome == RunState.STOPPED) run = records.concluded(run, seat.active?.progress)
                records.write(run.copy(state = outcome, reason = reason))
            } finally {
                seat.leave()
            }
            Log.i(TAG, "run ${run.name}: ${outcome.name.lowercase()} at step ${run.step} $reason")
            seat.tellListeners()
        }
    }

    /**
     * Waits while the policy says so. Returns the run with the reasons that its closed trace does not have yet,
     * and what was waited for last, if anything.
     */
    private fun awaitPermission(started: Run, before: Waiting?): Pair<Run, Waiting?> {
        var run = started
        var waited: Waiting? = before
        var shown: Waiting? = null
        while (seat.wish == Wish.TRAIN) {
            val waiting = afterKill() ?: decide(run, waited?.hold) ?: break
            if (waiting.hold != waited?.hold) run = run.copy(untold = run.untold + waiting.text)
            waited = waiting
            if (waiting != shown) {
                shown = waiting
                records.write(run.copy(state = RunState.WAITING, reason = waiting.text, step = stepOf(run)))
                val active = seat.active
                val since = active?.takeIf { it.waiting?.hold == waiting.hold && it.since > 0 }?.since ?: System.currentTimeMillis()
                seat.show(ActiveRun(run.name, Doing.WAITING, waiting, active?.progress, since, pace.seconds))
            }
            seat.await(RECHECK_SECONDS)
        }
        return run to waited
    }

    /**
     * By what its engine took. Of a run that never had a step the engine says what it will take, asked whenever nothing but memory
     * is in the way: that depends on how much is free then.
     */
    private fun decide(run: Run, held: Hold?): Waiting? {
        val careful = sinceKill != null && SystemClock.elapsedRealtime() < killedUntil + CAREFUL_MILLISECONDS
        val waiting = decide(held, run.peakMb, careful)
        if (run.peakMb > 0 || waiting != null && waiting.hold != Hold.MEMORY) return waiting
        return decide(held, needMb(run), careful)
    }

    /** 0 where the engine has no word for it: it says why when it is opened. */
    private fun needMb(run: Run): Long = try {
        guests.dismiss()
        RunRecords.needs(records.options(run), seat::asks).moreBytes / 1_000_000
    } catch (error: Exception) {
        if (seat.wish == Wish.TRAIN) Log.w(TAG, "run ${run.name}: what it will take is not known", error)
        0
    } catch (error: OutOfMemoryError) {
        Log.w(TAG, "run ${run.name}: what it will take is not known", error)
        0
    } finally {
        seat.asks(null)
    }

    private fun afterKill() = sinceKill.takeIf { SystemClock.elapsedRealtime() < killedUntil && Hold.MEMORY !in seat.allowed }

    /**
     * The engine was ended from outside, most likely because memory is short, which no signal tells: the run waits until what it takes is
     * free with some to spare, and at least a minute, then two: by then the system has ended what else it wants to. It goes on from its
     * last save. It has failed once that has happened too often without anything new saved.
     */
    private fun waitAfterKill(run: Run, error: EngineException): Run {
        Log.w(TAG, "run ${run.name}: its engine was ended from outside", error)
        attempts++
        val waiting = Waiting(Hold.MEMORY, Words.of(R.string.wait_killed))
        // Whoever pauses or stops it meanwhile gets that.
        if (attempts >= MOST_ATTEMPTS && seat.wish == Wish.TRAIN) {
            throw AppException(Words.of(R.string.crash_loop, run.name, attempts, Words.of(R.string.exit_engine)), error)
        }
        sinceKill = waiting
        killedUntil = SystemClock.elapsedRealtime() + (FIRST_WAIT_MILLISECONDS shl (attempts - 1))
        seat.forbid(Hold.MEMORY)
        val untold = if (told) emptyList() else run.untold
        return run.copy(step = savedStep, attempts = attempts, peakMb = peakOf(run), untold = untold + waiting.text)
    }

    /** What came after the last save is lost, and must not be shown as done. */
    private fun backToSave(run: Run) {
        // It may have saved without getting to say so.
        if (stateOf(run).lastModified() != savedAt) savedStep = maxOf(savedStep, seat.active?.progress?.step ?: 0)
        seat.show(ActiveRun(run.name, Doing.OPENING, null, seat.active?.progress?.copy(step = savedStep), secondsPerStep = pace.seconds))
    }

    /** Trains until the run is over or must stop. Returns what it has to wait for, or null. */
    private fun train(run: Run, waited: Waiting?): Waiting? {
        seat.show(ActiveRun(run.name, Doing.OPENING, null, seat.active?.progress))
        guests.dismiss()
        attempts = run.attempts
        savedStep = run.step
        savedAt = stateOf(run).lastModified()
        told = false
        full = false
        sinceKill = null
        val opened = Engine.open(records.options(run))
        try {
            run.untold.forEach { opened.note("paused", it) }
            if (waited != null) opened.note("resumed", Words.of(waited.hold.over))
            told = true
            seat.opened(opened)
            val begun = opened.progress().step
            savedStep = begun
            do {
                if (seat.held == null) decide(null, 0, false)?.let { seat.hold(opened, it) }
                val progress = opened.progress()
                pace.add(progress)
                val doing = if (seat.held == null) Doing.TRAINING else Doing.SAVING
                seat.show(ActiveRun(run.name, doing, seat.held, progress, secondsPerStep = pace.seconds))
                // It has saved since, so what ended its process before is over.
                val now = stateOf(run).lastModified()
                if (now != savedAt) {
                    savedAt = now
                    savedStep = progress.step
                    if (attempts > 0) records.write(run.copy(attempts = 0, step = savedStep))
                    attempts = 0
                }
            } while (opened.step { full -> showFull(full) })
            val why = seat.held
            seat.dropped = why != null && opened.progress().step == begun
            seat.show(ActiveRun(run.name, Doing.SAVING, why, opened.progress()))
            return why.takeUnless { finished() }
        } finally {
            seat.closed()
            opened.close()
        }
    }

    /** Told in the middle of a step, on the thread that trains. */
    private fun showFull(now: Boolean) {
        full = now
        val active = seat.active ?: return
        if (seat.held != null) return
        val shown = if (full) active.copy(doing = Doing.FULL, since = System.currentTimeMillis()) else active.copy(doing = Doing.TRAINING, since = 0)
        seat.show(shown)
    }

    private fun stateOf(run: Run) = File(run.folder, "state.bin")

    private fun stepOf(run: Run): Long = seat.active?.progress?.step ?: run.step

    private fun peakOf(run: Run): Long = maxOf(run.peakMb, (seat.active?.progress?.peakKib ?: 0) * 1024 / 1_000_000)

    /** Also before the last step, where it no longer helped. */
    private fun finished(): Boolean = seat.active?.progress?.let { it.step >= it.steps || !it.running && !it.stopped } ?: false

    private companion object {
        const val TAG = "toolkit"
        const val RECHECK_SECONDS = 15L
        const val FIRST_WAIT_MILLISECONDS = 60_000L

        /** How long a run whose engine was ended waits for more memory than the settings ask for; its attempts are counted. */
        const val CAREFUL_MILLISECONDS = 30 * 60_000L
    }
}
