package dev.toolkit.trainer.service

import dev.toolkit.trainer.R
import dev.toolkit.trainer.Words
import dev.toolkit.trainer.engine.Engine
import dev.toolkit.trainer.engine.Progress
import dev.toolkit.trainer.policy.Conditions
import dev.toolkit.trainer.policy.Hold
import dev.toolkit.trainer.policy.Policy
import dev.toolkit.trainer.policy.PolicySettings
import dev.toolkit.trainer.policy.Waiting
import dev.toolkit.trainer.store.AppException
import dev.toolkit.trainer.store.Bundle
import dev.toolkit.trainer.store.BundleStore
import dev.toolkit.trainer.store.DataSet
import dev.toolkit.trainer.store.DataStore
import dev.toolkit.trainer.store.Needs
import dev.toolkit.trainer.store.Run
import dev.toolkit.trainer.store.RunSettings
import dev.toolkit.trainer.store.RunState
import dev.toolkit.trainer.store.RunStore
import java.io.File
import java.util.concurrent.TimeUnit
import kotlin.concurrent.thread

/**
 * Takes requests for the one active run: it is trained step by step on a thread of its own ([Training]), waits while the policy
 * says so, and keeps its record. While a run waits, the engine is closed and its memory free.
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
    private val records = RunRecords(runs, bundles, data, settings, learn)
    private val seat = Seat()
    private val guests = Guests { active?.name }
    private var worker: Thread? = null

    @Volatile private var shortOfMemoryUntil = System.nanoTime()

    /** The active run, or null. */
    val active: ActiveRun? get() = seat.active

    /** Why the last request for a run came to nothing, until one succeeds or the user puts it away. */
    val refusal: Refusal? get() = seat.refusal

    /** Called on any thread after something changed. */
    fun addListener(listener: () -> Unit) = seat.addListener(listener)

    fun removeListener(listener: () -> Unit) = seat.removeListener(listener)

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
        if (!seat.claim(name, anyway)) return run
        // Not under the lock, which the main thread takes as well.
        try {
            val started = runs.save(run.copy(state = RunState.RUNNING, reason = "", chosen = 0))
            worker = thread(name = "training") { Training(seat, records, guests, { held, needMb, killed -> decide(held, needMb, killed) }).work(started) }
        } catch (error: Throwable) {
            // Whatever it was, as no memory for another thread: a seat that stayed taken would keep every run from starting.
            seat.leave()
            throw error
        }
        seat.tellListeners()
        return run
    }

    /** Keeps for the screens why a request came to nothing. */
    fun refuse(refused: Refusal) = seat.refuse(refused)

    /** The user has read it. */
    fun dismissRefusal() = seat.refuse(null)

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
        val reason = Words.of(R.string.crash_loop, run.name, MOST_ATTEMPTS, lastExit())
        runs.save(tried.copy(state = RunState.FAILED, reason = reason, attempts = 0))
        seat.tellListeners()
        throw AppException(reason)
    }

    /** Saves and holds the active run until the user continues it. */
    fun pause() = seat.end(Wish.PAUSE)

    /** Saves and ends the active run. */
    fun stop() = seat.end(Wish.STOP)

    /** Looks at the phone's conditions again now, also in the middle of a step. */
    fun recheck() {
        val opened = seat.wake() ?: return
        // Nothing is computed meanwhile, and what was not saved would be lost; the next step asks again.
        if (active?.doing == Doing.FULL) return
        val waiting = decide(null) ?: return
        // Dropped again and again, a long step would never come to its end; heat does not wait for it.
        if (!seat.dropped || waiting.hold == Hold.THERMAL) seat.hold(opened, waiting)
    }

    /** Lets the active run train in spite of what it waits for now, until it is paused or over. */
    fun goOn() = seat.goOn()

    private fun decide(hold: Hold?, needMb: Long = 0, killed: Boolean = false): Waiting? =
        Policy.decide(settings(), phone(), hold, needMb, seat.allowed, killed)

    private fun phone(): Conditions =
        conditions().let { if (shortOfMemoryUntil - System.nanoTime() > 0) it.copy(lowMemory = true) else it }

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
        return guests.lend(use = use)
    }

    /** The same whatever the battery and the weather are, for what does not compute. */
    fun <T> alone(use: (Guest) -> T): T = guests.lend(use = use)

    /**
     * What a run will hold, for [settings] with their threads. A run that begins ends it.
     *
     * @param begun given what ends it early, where it can be ended
     * @throws AppException the engine is not to be had
     * @throws dev.toolkit.trainer.engine.EngineException it could not be trained
     */
    fun needs(bundle: Bundle, data: DataSet, settings: RunSettings, begun: (() -> Unit) -> Unit = {}): Needs {
        val nowhere = File(bundle.folder, "run") // nothing is written
        return guests.lend(brief = true) { guest ->
            RunRecords.needs(RunRecords.options(settings, bundle, data, nowhere)) { end ->
                guest.whenWanted(end)
                begun(end)
            }
        }
    }

    private companion object {
        const val SHORT_OF_MEMORY_SECONDS = 60L
    }
}
