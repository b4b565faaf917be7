package dev.toolkit.trainer.service

import dev.toolkit.trainer.R
import dev.toolkit.trainer.Words
import dev.toolkit.trainer.store.AppException
import java.util.concurrent.locks.ReentrantLock
import kotlin.concurrent.withLock

/** Somebody who has the engine for a while, until a run wants it. */
class Guest {
    private val lock = ReentrantLock()
    private var leave: (() -> Unit)? = null
    private var wanted = false

    /** Whether a run wants the engine. */
    val isWanted: Boolean get() = lock.withLock { wanted }

    /** Has [act] called on any thread once a run wants the engine; now if it does already. */
    fun whenWanted(act: () -> Unit) {
        lock.withLock {
            leave = act
            wanted
        }.let { now -> if (now) act() }
    }

    internal fun ask() = lock.withLock {
        wanted = true
        leave
    }?.invoke()
}

/**
 * Uses of the engine that are no runs: a trial, or a model that is asked something. A phone has memory for one engine, and a
 * run comes first: nobody is let in while one is active, and who is in has to leave when one begins.
 *
 * @param activeRun the name of the active run, or null
 */
class Guests(private val activeRun: () -> String?) {
    private val lock = ReentrantLock()
    private val gone = lock.newCondition()
    private var guest: Guest? = null
    private var leavesSoon = false

    /**
     * Lets [use] have the engine, which it must have closed when it returns.
     *
     * @param brief it takes a moment, and who comes meanwhile waits for it
     * @throws AppException a run is active, or somebody else has the engine
     */
    fun <T> lend(brief: Boolean = false, use: (Guest) -> T): T {
        val here = Guest()
        lock.withLock {
            while (guest != null && leavesSoon) gone.await()
            if (guest != null) throw AppException(Words.of(R.string.engine_busy))
            guest = here
            leavesSoon = brief
        }
        try {
            // After it is known to be in: a run that begins now finds it, one that began before is found.
            activeRun()?.let { throw AppException(Words.of(R.string.run_active, it)) }
            return use(here)
        } finally {
            lock.withLock {
                guest = null
                gone.signalAll()
            }
        }
    }

    /** Waits until nobody has the engine; for a run, once it is the active one. */
    fun dismiss() {
        lock.withLock { guest }?.ask()
        lock.withLock { while (guest != null) gone.await() }
    }
}
