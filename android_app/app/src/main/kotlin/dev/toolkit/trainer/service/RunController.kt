package dev.toolkit.trainer.service

import android.util.Log
import dev.toolkit.trainer.R
import dev.toolkit.trainer.Words
import dev.toolkit.trainer.engine.Engine
import dev.toolkit.trainer.engine.EngineException
import dev.toolkit.trainer.engine.Progress
import dev.toolkit.trainer.engine.Trainer
import dev.toolkit.trainer.policy.Conditions
import dev.toolkit.trainer.policy.Hold
import dev.toolkit.trainer.policy.Policy
import dev.toolkit.trainer.policy.PolicySettings
import dev.toolkit.trainer.policy.Waiting
import dev.toolkit.trainer.store.AppException
import dev.toolkit.trainer.store.Bundle
import dev.toolkit.trainer.store.BundleStore
import dev.toolkit.trainer.store.DataStore
import dev.toolkit.trainer.store.Run
import dev.toolkit.trainer.store.RunState
import dev.toolkit.trainer.store.RunStore
import java.io.File
import java.util.concurrent.CopyOnWriteArraySet
import java.util.concurrent.TimeUnit
import java.util.concurrent.locks.ReentrantLock
import kotlin.concurrent.thread
import kotlin.concurrent.withLock

/**
 * Holds at most one run: trains it step by step on a thread of its own, lets it wait while the policy says
 * so, and keeps its record. While a run waits, the engine is closed and its memory free.
 */
class RunController(
    private val runs: RunStore,
    private val bundles: BundleStore,
    private val data: DataStore,
    private val settings: () -> PolicySettings,
    private val conditions: () -> Conditions,
    /** Why the process before this one ended, in words. */
    private val lastExit: () -> String = { "" },
    /** Told what a step took: model, tokens in a sequence, sequences in the step. */
    learn: (Bundle, Int, Int, Progress) -> Unit = { _, _, _, _ -> },
) {
    private enum class Wish { TRAIN, PAUSE, STOP }

    private val records = RunRecords(runs, bundles, data, settings, learn)
    private val lock = ReentrantLock()
    private val changed = lock.newCondition()
    private val listeners = CopyOnWriteArraySet<() -> Unit>()
    private var wish = Wish.TRAIN
    private var worker: Thread? = null
    private var trainer: Trainer? = null

    /** Why the engine that is open was told to end, if not by the user. */
    @Volatile private var held: Waiting? = null

    /** What the user lets the active run train in spite of. */
    @Volatile private var allowed = emptySet<Hold>()
    private var pace = Pace()

    /** Whether the last time that the engine was open brought no step to its end. */
    @Volatile private var dropped = false

    private val guests = Guests { active?.name }

    @Volatile private var shortOfMemoryUntil = System.nanoTime()

    /** The active run, or null. */
    @Volatile var active: ActiveRun? = null
        private set

    /** Why the last request for a run came to nothing, until one succeeds or the user puts it away. */
    @Volatile var refusal: Refusal? = null
        private set

    /** Called on any thread after something changed. */
    fun addListener(listener: () -> Unit) = listeners.add(listener)

    fun removeListener(listener: () -> Unit) = listeners.remove(listener)

    /**
     * Starts or continues a run; nothing happens when it is active already.
     *
     * @param anyway what it need not wait for, until it is paused or over
     * @throws AppException the run or what it needs is not there, or another run is active
     */
    fun start(name: String, anyway: Set<Hold> = emptySet()): Run {
        val run = runs.require(name)
        if (!Engine.available) throw AppException(Words.of(R.string.no_engine_train))
        if (active == null) {
            bundles.require(run.bundle)
            data.require(run.data)
        }
        if (!claim(name, anyway)) return run
        // Not under the lock, which the main thread takes as well.
        try {
            val started = runs.save(run.copy(state = RunState.RUNNING, reason = "", chosen = 0))
            worker = thread(name = "training") { work(started) }
        } catch (error: AppException) {
            lock.withLock { active = null }
            throw error
        }
        notifyListeners()
        return run
    }

    /** Makes a run the active one; false if it is already. */
    private fun claim(name: String, anyway: Set<Hold>): Boolean = lock.withLock {
        val other = active
        if (other != null && other.name != name) {
            throw AppException(Words.of(R.string.run_active, other.name))
        }
        if (other != null && wish != Wish.TRAIN) throw AppException(Words.of(R.string.run_saving, name))
        if (other != null) return false
        wish = Wish.TRAIN
        active = ActiveRun(name, Doing.OPENING, null, null)
        allowed = anyway
        pace = Pace()
        refusal = null
        true
    }

    /** Keeps for the screens why a request came to nothing. */
    fun refuse(refused: Refusal) {
        refusal = refused
        notifyListeners()
    }

    /** The user has read it. */
    fun dismissRefusal() {
        refusal = null
        notifyListeners()
    }

    /** Runs that were going on when their process ended. */
    fun interrupted(): List<Run> = runs.list().filter {
        it.name != active?.name && (it.state == RunState.RUNNING || it.state == RunState.WAITING)
    }

    /**
     * Continues a run whose process ended while it was active. One that brings its process down again and again
     * without saving anything new is ended.
     *
     * @throws AppException it cannot go on, or has been tried too often
     */
    fun continueInterrupted(run: Run): Run {
        if (run.state != RunState.RUNNING) return start(run.name)
        val tried = runs.save(run.copy(attempts = run.attempts + 1))
        if (tried.attempts <= MOST_ATTEMPTS) return start(run.name)
        val reason = Words.of(R.string.crash_loop, MOST_ATTEMPTS, lastExit())
        runs.save(tried.copy(state = RunState.FAILED, reason = reason, attempts = 0))
        notifyListeners()
        throw AppException(reason)
    }

    /** Saves and holds the active run until the user continues it. */
    fun pause() = end(Wish.PAUSE)

    /** Saves and ends the active run. */
    fun stop() = end(Wish.STOP)

    /** Looks at the phone's conditions again now, also in the middle of a step. */
    fun recheck() {
        val opened = lock.withLock {
            changed.signalAll()
            trainer?.takeIf { wish == Wish.TRAIN && held == null }
        } ?: return
        val waiting = decide(null) ?: return
        // Dropped again and again, a long step would never come to its end; heat does not wait for it.
        if (!dropped || waiting.hold == Hold.THERMAL) hold(opened, waiting)
    }

    /** Lets the active run train in spite of what it waits for now, until it is paused or over. */
    fun goOn() {
        lock.withLock {
            val now = active?.takeIf { it.canGoOn } ?: return
            allowed = allowed + now.waiting!!.hold
            changed.signalAll()
        }
    }

    private fun decide(hold: Hold?, needMb: Long = 0) = Policy.decide(settings(), phone(), hold, needMb, allowed)

    /** Has the engine end where it is, saved, to wait. */
    private fun hold(opened: Trainer, waiting: Waiting) {
        lock.withLock {
            if (trainer !== opened || held != null || wish != Wish.TRAIN) return
            held = waiting
        }
        opened.note("paused", waiting.text)
        opened.requestStop()
    }

    /** The system asks for memory: the run is saved and its engine closed for a while, unless the settings forbid it. */
    fun releaseMemory() {
        shortOfMemoryUntil = System.nanoTime() + TimeUnit.SECONDS.toNanos(SHORT_OF_MEMORY_SECONDS)
        recheck()
    }

    /** Waits until no run is active; for tests and for shutting down. */
    fun join(milliseconds: Long): Boolean {
        worker?.join(milliseconds)
        return active == null
    }

    /**
     * Lets [use] have the engine for a while, without charger and hours, for somebody waits for it; a run that begins ends it.
     *
     * @throws AppException a run is active, somebody else has the engine, or the phone is too hot or short of memory
     */
    fun <T> lend(use: (Guest) -> T): T {
        Policy.decide(settings(), phone(), null, allowed = setOf(Hold.HOURS, Hold.CHARGER, Hold.BATTERY))
            ?.let { throw AppException(Words.of(R.string.engine_not_now, it.text)) }
        return guests.lend(use)
    }

    /** The same whatever the battery and the weather are, for what does not compute. */
    fun <T> alone(use: (Guest) -> T): T = guests.lend(use)

    private fun end(how: Wish) {
        lock.withLock {
            // The first word counts: a second tap must not turn a pause into a stop.
            val now = active
            if (now == null || wish != Wish.TRAIN) return
            wish = how
            if (now.doing == Doing.TRAINING) active = now.copy(doing = Doing.ENDING)
            trainer?.let(::tellOfWish)
            changed.signalAll()
        }
        notifyListeners()
    }

    private fun tellOfWish(opened: Trainer) {
        opened.note("paused", wishInWords())
        opened.requestStop()
    }

    private fun work(started: Run) {
        var run = started
        var outcome = RunState.FAILED
        var reason = ""
        try {
            var waited: Waiting? = null
            while (true) {
                val permission = awaitPermission(run, waited)
                run = permission.first
                waited = permission.second
                if (wished() != Wish.TRAIN) {
                    run = run.copy(untold = run.untold + wishInWords())
                    outcome = afterWish()
                    break
                }
                run = records.write(run.copy(state = RunState.RUNNING, reason = ""))
                val held = train(run, waited)
                run = run.copy(step = active?.progress?.step ?: run.step, untold = emptyList(), peakMb = peakOf(run), attempts = 0)
                if (held == null) {
                    outcome = if (wished() == Wish.TRAIN || finished()) RunState.COMPLETED else afterWish()
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
            run = run.copy(step = active?.progress?.step ?: run.step, peakMb = peakOf(run), attempts = 0)
            if (outcome == RunState.COMPLETED || outcome == RunState.STOPPED) run = records.concluded(run, active?.progress)
            records.write(run.copy(state = outcome, reason = reason))
            lock.withLock { active = null }
            Log.i(TAG, "run ${run.name}: ${outcome.name.lowercase()} at step ${run.step} $reason")
            notifyListeners()
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
        while (wished() == Wish.TRAIN) {
            val waiting = decide(waited?.hold, run.peakMb) ?: break
            if (waiting.hold != waited?.hold) run = run.copy(untold = run.untold + waiting.text)
            waited = waiting
            if (waiting != shown) {
                shown = waiting
                records.write(run.copy(state = RunState.WAITING, reason = waiting.text, step = active?.progress?.step ?: run.step))
                val since = active?.takeIf { it.waiting?.hold == waiting.hold && it.since > 0 }?.since ?: System.currentTimeMillis()
                show(ActiveRun(run.name, Doing.WAITING, waiting, active?.progress, since, pace.seconds))
            }
            lock.withLock { if (wish == Wish.TRAIN) changed.await(RECHECK_SECONDS, TimeUnit.SECONDS) }
        }
        return run to waited
    }

    /** Trains until the run is over or must stop. Returns what it has to wait for, or null. */
    private fun train(run: Run, waited: Waiting?): Waiting? {
        show(ActiveRun(run.name, Doing.OPENING, null, active?.progress))
        guests.dismiss()
        val opened = Engine.open(records.options(run))
        try {
            run.untold.forEach { opened.note("paused", it) }
            if (waited != null) opened.note("resumed", Words.of(waited.hold.over))
            lock.withLock {
                trainer = opened
                held = null
                if (wish != Wish.TRAIN) tellOfWish(opened)
            }
            val saved = File(run.folder, "state.bin")
            val savedAt = saved.lastModified()
            var attempts = run.attempts
            val begun = opened.progress().step
            do {
                if (held == null) decide(null)?.let { hold(opened, it) }
                val progress = opened.progress()
                pace.add(progress)
                val doing = if (held == null) Doing.TRAINING else Doing.SAVING
                show(ActiveRun(run.name, doing, held, progress, secondsPerStep = pace.seconds))
                // It has saved since, so what ended its process before is over.
                if (attempts > 0 && saved.lastModified() != savedAt) {
                    attempts = 0
                    records.write(run.copy(attempts = 0, step = opened.progress().step))
                }
            } while (opened.step())
            val why = lock.withLock { held }
            dropped = why != null && opened.progress().step == begun
            show(ActiveRun(run.name, Doing.SAVING, why, opened.progress()))
            return why.takeUnless { finished() }
        } finally {
            lock.withLock { trainer = null }
            opened.close()
        }
    }

    private fun peakOf(run: Run): Long = maxOf(run.peakMb, (active?.progress?.peakKib ?: 0) * 1024 / 1_000_000)

    private fun phone(): Conditions =
        conditions().let { if (shortOfMemoryUntil - System.nanoTime() > 0) it.copy(lowMemory = true) else it }

    private fun wished(): Wish = lock.withLock { wish }

    private fun wishInWords() = if (wished() == Wish.PAUSE) Words.of(R.string.by_user) else Words.of(R.string.stopped_by_user)

    private fun afterWish(): RunState = if (wished() == Wish.STOP) RunState.STOPPED else RunState.PAUSED

    /** Also before the last step, where it no longer helped. */
    private fun finished(): Boolean = active?.progress?.let { it.step >= it.steps || !it.running && !it.stopped } ?: false

    private fun show(now: ActiveRun) {
        // Under the lock: what was told to end must not seem to train on.
        lock.withLock { active = if (wish != Wish.TRAIN && now.doing == Doing.TRAINING) now.copy(doing = Doing.ENDING) else now }
        notifyListeners()
    }

    private fun notifyListeners() = listeners.forEach { it() }

    private companion object {
        const val TAG = "toolkit"
        const val RECHECK_SECONDS = 15L
        const val SHORT_OF_MEMORY_SECONDS = 60L
        const val MOST_ATTEMPTS = 3
    }
}
