package dev.toolkit.trainer.service

import android.os.Handler
import android.os.Looper
import android.os.SystemClock
import java.util.concurrent.atomic.AtomicBoolean

/** Runs something on the main thread after a change, at once and then at most once in [interval] milliseconds. */
class Throttle(private val interval: Long, private val action: () -> Unit) {
    private val main = Handler(Looper.getMainLooper())
    private val pending = AtomicBoolean()

    @Volatile private var last = -interval
    private val run = Runnable {
        pending.set(false)
        last = SystemClock.uptimeMillis()
        action()
    }

    /** May be called from any thread, as often as one likes. */
    fun request() {
        if (!pending.compareAndSet(false, true)) return
        main.postDelayed(run, (last + interval - SystemClock.uptimeMillis()).coerceIn(0, interval))
    }

    fun cancel() {
        main.removeCallbacks(run)
        pending.set(false)
    }
}
