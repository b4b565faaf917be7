package dev.toolkit.trainer.ui

import android.os.Handler
import android.os.Looper
import kotlin.concurrent.thread

/**
 * Work that outlives the screen that began it: a phone that is turned meanwhile makes a new screen, which is told
 * the result. To be used on the main thread.
 */
class Errand<T : Any> {
    private val main = Handler(Looper.getMainLooper())
    private var listener: ((T) -> Unit)? = null
    private var untold: T? = null

    var running = false
        private set

    /** Runs [work] on a thread of its own; nothing happens while another one is running. */
    fun begin(work: () -> T) {
        if (running) return
        running = true
        thread(name = "errand") {
            val result = work()
            main.post {
                running = false
                untold = result
                tell()
            }
        }
    }

    /** Tells [listener] the result once it is there, or now. */
    fun attach(listener: (T) -> Unit) {
        this.listener = listener
        tell()
    }

    /** Undoes [attach]; a screen may end after the next one began. */
    fun detach(listener: (T) -> Unit) {
        if (this.listener === listener) this.listener = null
    }

    private fun tell() {
        val result = untold ?: return
        val told = listener ?: return
        untold = null
        told(result)
    }
}
