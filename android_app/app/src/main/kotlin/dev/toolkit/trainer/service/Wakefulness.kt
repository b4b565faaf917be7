package dev.toolkit.trainer.service

import android.app.AlarmManager
import android.app.PendingIntent
import android.content.Context
import android.os.Handler
import android.os.Looper
import android.os.PowerManager
import android.os.SystemClock

/**
 * Keeps the processor awake while a run trains. While it waits the phone may sleep, and a sleeping phone runs no
 * timers: an alarm wakes it now and then to look whether the conditions have become better.
 *
 * @param look what the alarm sends
 */
class Wakefulness(context: Context, private val look: PendingIntent) {
    private val power = context.getSystemService(PowerManager::class.java)!!
    private val alarms = context.getSystemService(AlarmManager::class.java)!!
    private var alarmed = false
    private val training = power.newWakeLock(PowerManager.PARTIAL_WAKE_LOCK, "toolkit:training").apply { setReferenceCounted(false) }

    private val main = Handler(Looper.getMainLooper())
    private val renewal = Runnable(::renew)

    /** Until [rest] or [end], however long a step takes; may be called again. */
    fun train() {
        renew()
        cancel()
    }

    /** The lock ends by itself soon after a main thread that no longer runs. */
    private fun renew() {
        training.acquire(TRAINING_MILLISECONDS)
        main.removeCallbacks(renewal)
        main.postDelayed(renewal, TRAINING_MILLISECONDS / 2)
    }

    private fun release() {
        main.removeCallbacks(renewal)
        training.release()
    }

    /** Lets the phone sleep; plugging it in wakes it, for heat, memory and the battery there is the alarm. */
    fun rest() {
        release()
        alarmed = true
        arm(alarms, look)
    }

    fun end() {
        release()
        cancel()
    }

    private fun cancel() {
        if (alarmed) alarms.cancel(look)
        alarmed = false
    }

    companion object {
        private const val TRAINING_MILLISECONDS = 10L * 60 * 1000
        private const val ALARM_MILLISECONDS = 10L * 60 * 1000
        private const val LOOK_MILLISECONDS = 10_000L

        /** An alarm goes off once: the next look of a run that waits on. */
        fun lookAgain(context: Context) = arm(context.getSystemService(AlarmManager::class.java)!!, RestartReceiver.alarm(context))

        private fun arm(alarms: AlarmManager, look: PendingIntent) {
            val next = SystemClock.elapsedRealtime() + ALARM_MILLISECONDS
            alarms.setAndAllowWhileIdle(AlarmManager.ELAPSED_REALTIME_WAKEUP, next, look)
        }

        /** The alarm went off: stays awake for as long as a look at the phone takes. */
        fun stayAwakeToLook(context: Context) = context.getSystemService(PowerManager::class.java)!!
            .newWakeLock(PowerManager.PARTIAL_WAKE_LOCK, "toolkit:look").acquire(LOOK_MILLISECONDS)
    }
}
