package dev.toolkit.trainer.service

import dev.toolkit.trainer.R
import dev.toolkit.trainer.Words
import dev.toolkit.trainer.engine.Trainer
import dev.toolkit.trainer.policy.Hold
import dev.toolkit.trainer.policy.Waiting
import dev.toolkit.trainer.store.AppException
import dev.toolkit.trainer.store.RunState
import java.util.concurrent.CopyOnWriteArraySet
import java.util.concurrent.TimeUnit
import java.util.concurrent.locks.ReentrantLock
import kotlin.concurrent.withLock

/** What is wanted of the active run; [after] is what it is when that is done. */
internal enum class Wish(val reason: Int, val after: RunState) {
    TRAIN(R.string.by_user, RunState.PAUSED),
    PAUSE(R.string.by_user, RunState.PAUSED),
    STOP(R.string.stopped_by_user, RunState.STOPPED);

    val words get() = Words.of(reason)
}

/** The one place for an active run, as every thread sees it: what is wanted of it, what it does, which engine it has, who is told. */
internal class Seat {
    private val lock = ReentrantLock()
    private val changed = lock.newCondition()
    private val listeners = CopyOnWriteArraySet<() -> Unit>()
    private var wanted = Wish.TRAIN
    private var trainer: Trainer? = null
    private var endErrand: (() -> Unit)? = null

    /** The active run, or null. */
    @Volatile var active: ActiveRun? = null
        private set

    /** Why the last request for a run came to nothing. */
    @Volatile var refusal: Refusal? = null
        private set

    /** Why the engine that is open was told to end, if not by the user. */
    @Volatile var held: Waiting? = null
        private set

    /** What the user lets the active run train in spite of. */
    @Volatile var allowed = emptySet<Hold>()
        private set

    /** Whether the last time that the engine was open brought no step to its end. */
    @Volatile var dropped = false

    val wish: Wish get() = lock.withLock { wanted }

    fun addListener(listener: () -> Unit) = listeners.add(listener)

    fun removeListener(listener: () -> Unit) = listeners.remove(listener)

    fun tellListeners() = listeners.forEach { it() }

    fun refuse(refused: Refusal?) {
        refusal = refused
        tellListeners()
    }

    /**
     * Makes a run the active one; false if it is already.
     *
     * @throws AppException another run is active, or this one is just ending
     */
    fun claim(name: String, anyway: Set<Hold>): Boolean = lock.withLock {
        val other = active
        if (other != null && other.name != name) throw AppException(Words.of(R.string.run_active, other.name), blocker = other.name)
        if (other != null && wanted != Wish.TRAIN) throw AppException(Words.of(R.string.run_saving, name))
        if (other != null) return false
        wanted = Wish.TRAIN
        active = ActiveRun(name, Doing.OPENING, null, null)
        allowed = anyway
        dropped = false
        refusal = null
        true
    }

    fun leave() = lock.withLock { active = null }

    /** Has the active run end; the first word counts: a second tap must not turn a pause into a stop. */
    fun end(how: Wish) {
        lock.withLock {
            val now = active
            if (now == null || wanted != Wish.TRAIN) return
            wanted = how
            if (now.doing == Doing.TRAINING || now.doing == Doing.FULL) active = now.copy(doing = Doing.ENDING, since = 0)
            trainer?.let(::tellOfWish)
            changed.signalAll()
            endErrand?.invoke()
        }
        tellListeners()
    }

    private fun tellOfWish(opened: Trainer) {
        opened.note("paused", wanted.words)
        opened.requestStop()
    }

    /** Lets the active run train in spite of what it waits for now, until it is paused or over. */
    fun goOn() {
        lock.withLock {
            val now = active?.takeIf { it.canGoOn } ?: return
            allowed = allowed + now.waiting!!.hold
            changed.signalAll()
        }
    }

    /** Has the active run wait for [hold] again, whatever the user allowed before. */
    fun forbid(hold: Hold) = lock.withLock { allowed = allowed - hold }

    /** Has whoever waits look again; returns the engine that trains on, if one does. */
    fun wake(): Trainer? = lock.withLock {
        changed.signalAll()
        trainer?.takeIf { wanted == Wish.TRAIN && held == null }
    }

    /** Waits a while, or until something may have changed. */
    fun await(seconds: Long) {
        lock.withLock { if (wanted == Wish.TRAIN) changed.await(seconds, TimeUnit.SECONDS) }
    }

    /** The engine is asked something before the active run opens it: [end] ends that; null once it is answered. */
    fun asks(end: (() -> Unit)?) = lock.withLock {
        endErrand = end
        if (wanted != Wish.TRAIN) end?.invoke()
    }

    /** The engine of the active run is open; it may have been told to end before. */
    fun opened(engine: Trainer) = lock.withLock {
        trainer = engine
        held = null
        if (wanted != Wish.TRAIN) tellOfWish(engine)
    }

    fun closed() = lock.withLock { trainer = null }

    /** Has the engine end where it is, saved, to wait. */
    fun hold(opened: Trainer, waiting: Waiting) {
        lock.withLock {
            if (trainer !== opened || held != null || wanted != Wish.TRAIN) return
            held = waiting
        }
        opened.note("paused", waiting.text)
        opened.requestStop()
    }

    fun show(now: ActiveRun) {
        // Under the lock: what was told to end must not seem to train on.
        lock.withLock { active = if (wanted != Wish.TRAIN && (now.doing == Doing.TRAINING || now.doing == Doing.FULL)) now.copy(doing = Doing.ENDING, since = 0) else now }
        tellListeners()
    }
}
