package dev.toolkit.trainer.service

import android.app.AlarmManager
import android.app.PendingIntent
import android.content.Context
import android.os.PowerManager
import android.os.SystemClock

/**
 * Keeps the processor awake while a run trains. While it waits the phone may sleep, and a sleeping phone runs no
 * timers: an alarm wakes it now and then to [look] whether the conditions have become better.
 *
 * @param look what the alarm sends
 */
class Wakefulness(context: Context, private val look: PendingIntent) {
    private val power = context.getSystemService(PowerManager::class.java)!!
    private val alarms = context.getSystemService(AlarmManager::class.java)!!
    private var alarmed = false
    private val training = power.newWakeLock(PowerManager.PARTIAL_WAKE_LOCK, "toolkit:training").apply { setReferenceCounted(false) }

    /** To be called again at every step. */
    fun train() {
        training.acquire(TRAINING_MILLISECONDS)
        cancel()
    }

    /** Lets the phone sleep; plugging it in wakes it, for heat, memory and the battery there is the alarm. */
    fun rest() {
        training.release()
        alarmed = true
        val next = SystemClock.elapsedRealtime() + ALARM_MILLISECONDS
        alarms.setAndAllowWhileIdle(AlarmManager.ELAPSED_REALTIME_WAKEUP, next, look)
    }

    /** The alarm went off: stays awake for as long as a look at the phone takes. */
    fun look() = power.newWakeLock(PowerManager.PARTIAL_WAKE_LOCK, "toolkit:look").acquire(LOOK_MILLISECONDS)

    fun end() {
        training.release()
        cancel()
    }

    private fun cancel() {
        if (alarmed) alarms.cancel(look)
        alarmed = false
    }

    private companion object {
        // No step of any model takes this long.
        const val TRAINING_MILLISECONDS = 60L * 60 * 1000
        const val ALARM_MILLISECONDS = 10L * 60 * 1000
        const val LOOK_MILLISECONDS = 10_000L
    }
}
