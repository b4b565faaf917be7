package dev.toolkit.trainer

import android.os.Handler
import android.os.Looper
import android.util.Log
import java.util.concurrent.ExecutorService
import java.util.concurrent.Executors

/** Work on files that no screen waits for, in order, off the main thread. */
class Background {
    private val main = Handler(Looper.getMainLooper())
    private val worker: ExecutorService = Executors.newSingleThreadExecutor()

    /** Runs [work], then [done] on the main thread, also where the work failed. */
    fun run(work: () -> Unit, done: () -> Unit = {}) {
        worker.execute {
            try {
                work()
            } catch (error: Throwable) {
                Log.e("toolkit", "work in the background", error)
            }
            main.post(done)
        }
    }

    /** Waits until what was asked for before is done, but for what is then left to the main thread. */
    fun await() {
        worker.submit {}.get()
    }
}
