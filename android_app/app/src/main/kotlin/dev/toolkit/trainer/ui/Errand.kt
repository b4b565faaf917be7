package dev.toolkit.trainer.ui

import android.os.Handler
import android.os.Looper
import android.util.Log
import kotlin.concurrent.thread

/**
 * Work that outlives the screen that began it: a phone that is turned meanwhile makes a new screen, which is told
 * the result. To be used on the main thread.
 */
class Errand<T : Any>(
    /** What is told where the work itself failed, with whatever: a mistake here must not end the run that trains. */
    private val failed: (Throwable) -> T,
) {
    private val main = Handler(Looper.getMainLooper())
    private var listener: ((T) -> Unit)? = null
    private var untold: T? = null

    var running = false
        private set

    /** Runs [work] on a thread of its own, then [done] here, told or not; nothing happens while another one is running. */
    fun begin(done: (T) -> Unit = {}, work: () -> T) {
        if (running) return
        running = true
        thread(name = "errand") {
            val result = try {
                work()
            } catch (error: Throwable) {
                Log.e("toolkit", "errand", error)
                failed(error)
            }
            main.post {
                running = false
                untold = result
                tell()
                done(result)
            }
        }
    }

    /** Tells [listener] the result once it is there, or now. */
    fun attach(listener: (T) -> Unit) {
        this.listener = listener
        tell()
    }

    /** What nobody was there to be told is not news to the next one who comes. */
    fun forget() {
        untold = null
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
