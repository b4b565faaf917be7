package dev.toolkit.trainer.service

import android.util.Log
import dev.toolkit.trainer.engine.Engine
import dev.toolkit.trainer.engine.EngineException
import dev.toolkit.trainer.engine.Trainer
import dev.toolkit.trainer.policy.Conditions
import dev.toolkit.trainer.policy.Policy
import dev.toolkit.trainer.policy.PolicySettings
import dev.toolkit.trainer.policy.Waiting
import dev.toolkit.trainer.store.AppException
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
) {
    private enum class Wish { TRAIN, PAUSE, STOP }

    private val lock = ReentrantLock()
    private val changed = lock.newCondition()
    private val listeners = CopyOnWriteArraySet<() -> Unit>()
    private var wish = Wish.TRAIN
    private var worker: Thread? = null
    private var trainer: Trainer? = null

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
     * @throws AppException the run or what it needs is not there, or another run is active
     */
    fun start(name: String): Run {
        val run = runs.require(name)
        if (!Engine.available) throw AppException("This build has no training engine, so it cannot train.")
        lock.withLock {
            val other = active
            if (other != null) {
                if (other.name == name) {
                    if (wish != Wish.TRAIN) throw AppException("Run “$name” is being saved. Try again in a moment.")
                    return run
                }
                throw AppException("Run “${other.name}” is active. Pause it first: two at once need too much memory.")
            }
            bundles.require(run.bundle)
            data.require(run.data)
            wish = Wish.TRAIN
            val started = runs.save(run.copy(state = RunState.RUNNING, reason = ""))
            active = ActiveRun(name, Doing.OPENING, null, null)
            refusal = null
            worker = thread(name = "training") { work(started) }
        }
        notifyListeners()
        return run
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
        val reason = "The app ended $MOST_ATTEMPTS times in a row before anything new was saved (${lastExit()}). " +
            "Use a smaller model or fewer threads, or resume to try again"
        runs.save(tried.copy(state = RunState.FAILED, reason = reason, attempts = 0))
        notifyListeners()
        throw AppException(reason)
    }

    /** Saves and holds the active run until the user continues it. */
    fun pause() = end(Wish.PAUSE)

    /** Saves and ends the active run. */
    fun stop() = end(Wish.STOP)

    /** Looks at the phone's conditions again now. */
    fun recheck() = lock.withLock { changed.signalAll() }

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

    private fun end(how: Wish) {
        lock.withLock {
            // The first word counts: a second tap must not turn a pause into a stop.
            val now = active
            if (now == null || wish != Wish.TRAIN) return
            wish = how
            if (now.doing == Doing.TRAINING) active = now.copy(doing = Doing.ENDING)
            trainer?.requestStop()
            changed.signalAll()
        }
        notifyListeners()
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
                run = record(run.copy(state = RunState.RUNNING, reason = ""))
                val held = train(run, waited)
                run = run.copy(step = active?.progress?.step ?: run.step, untold = emptyList(), peakMb = peakOf(run), attempts = 0)
                if (held == null) {
                    outcome = if (wished() == Wish.TRAIN || finished()) RunState.COMPLETED else afterWish()
                    break
                }
                waited = held
            }
        } catch (error: EngineException) {
            reason = error.message ?: "unknown failure"
        } catch (error: AppException) {
            reason = error.message ?: "unknown failure"
        } catch (error: RuntimeException) {
            reason = "unexpected failure: $error"
            Log.e(TAG, "run ${run.name}", error)
        } finally {
            // It has come to an end in its own way, so it is not what ends the process.
            run = run.copy(step = active?.progress?.step ?: run.step, peakMb = peakOf(run), attempts = 0)
            record(run.copy(state = outcome, reason = reason))
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
            val waiting = Policy.decide(settings(), phone(), waited?.hold, run.peakMb) ?: break
            if (waiting.hold != waited?.hold) run = run.copy(untold = run.untold + waiting.text)
            waited = waiting
            if (waiting != shown) {
                shown = waiting
                record(run.copy(state = RunState.WAITING, reason = waiting.text, step = active?.progress?.step ?: run.step))
                show(ActiveRun(run.name, Doing.WAITING, waiting, active?.progress))
            }
            lock.withLock { if (wish == Wish.TRAIN) changed.await(RECHECK_SECONDS, TimeUnit.SECONDS) }
        }
        return run to waited
    }

    /** Trains until the run is over or must stop. Returns what it has to wait for, or null. */
    private fun train(run: Run, waited: Waiting?): Waiting? {
        show(ActiveRun(run.name, Doing.OPENING, null, active?.progress))
        val opened = Engine.open(options(run))
        try {
            lock.withLock {
                trainer = opened
                if (wish != Wish.TRAIN) opened.requestStop()
            }
            run.untold.forEach { opened.note("paused", it) }
            if (waited != null) opened.note("resumed", waited.hold.over)
            var held: Waiting? = null
            val saved = File(run.folder, "state.bin")
            val savedAt = saved.lastModified()
            var attempts = run.attempts
            do {
                show(ActiveRun(run.name, if (held == null) Doing.TRAINING else Doing.SAVING, held, opened.progress()))
                if (held == null) {
                    held = Policy.decide(settings(), phone(), null)
                    if (held != null) {
                        opened.note("paused", held.text)
                        opened.requestStop()
                    } else if (wished() != Wish.TRAIN) {
                        opened.note("paused", wishInWords())
                    }
                }
                // It has saved since, so what ended its process before is over.
                if (attempts > 0 && saved.lastModified() != savedAt) {
                    attempts = 0
                    record(run.copy(attempts = 0, step = opened.progress().step))
                }
            } while (opened.step())
            show(ActiveRun(run.name, Doing.SAVING, held, opened.progress()))
            return held.takeUnless { finished() }
        } finally {
            lock.withLock { trainer = null }
            opened.close()
        }
    }

    private fun peakOf(run: Run): Long = maxOf(run.peakMb, (active?.progress?.peakKib ?: 0) * 1024 / 1_000_000)

    private fun options(run: Run): Map<String, String> {
        val bundle = bundles.require(run.bundle)
        val set = data.require(run.data)
        val threads = if (run.settings.threads > 0) run.settings.threads else settings().threads
        return buildMap {
            putAll(run.settings.options())
            put("bundle", bundle.folder.path)
            put("data", set.train.path)
            if (set.hasValidation && set.validation.isFile) put("eval-data", set.validation.path)
            put("out", run.folder.path)
            put("threads", threads.toString())
            if (run.trace.exists()) put("resume", "true")
        }
    }

    private fun phone(): Conditions =
        conditions().let { if (shortOfMemoryUntil - System.nanoTime() > 0) it.copy(lowMemory = true) else it }

    private fun wished(): Wish = lock.withLock { wish }

    private fun wishInWords() = if (wished() == Wish.PAUSE) "by the user" else "stopped by the user"

    private fun afterWish(): RunState = if (wished() == Wish.STOP) RunState.STOPPED else RunState.PAUSED

    private fun finished(): Boolean = active?.progress?.let { it.step >= it.steps } ?: false

    /** Writes run.json; a full disk must not end a run that the engine could still save. */
    private fun record(run: Run): Run {
        try {
            runs.save(run)
        } catch (error: AppException) {
            Log.w(TAG, error.message, error)
        }
        return run
    }

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
