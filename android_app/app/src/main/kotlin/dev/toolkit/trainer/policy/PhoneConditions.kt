package dev.toolkit.trainer.policy

import android.app.ActivityManager
import android.content.Context
import android.content.Intent
import android.content.IntentFilter
import android.os.BatteryManager
import android.os.Build
import android.os.PowerManager
import android.os.SystemClock
import java.util.Calendar

/** Reads [Conditions] from the system. */
class PhoneConditions(private val context: Context) {
    fun read(): Conditions {
        val battery = context.registerReceiver(null, IntentFilter(Intent.ACTION_BATTERY_CHANGED))
        val memory = ActivityManager.MemoryInfo()
        context.getSystemService(ActivityManager::class.java)!!.getMemoryInfo(memory)
        return Conditions(
            charging = battery.number(BatteryManager.EXTRA_PLUGGED, 0) != 0,
            batteryLevel = level(battery),
            batteryCelsius = battery.number(BatteryManager.EXTRA_TEMPERATURE, 0).takeIf { it > 0 }?.let { it / 10f },
            thermalStatus = thermalStatus(),
            thermalHeadroom = thermalHeadroom(),
            freeMb = memory.availMem / MEGABYTE,
            totalMb = memory.totalMem / MEGABYTE,
            lowMemory = memory.lowMemory,
            minuteOfDay = Calendar.getInstance().run { get(Calendar.HOUR_OF_DAY) * 60 + get(Calendar.MINUTE) },
        )
    }

    private fun level(battery: Intent?): Int? {
        val level = battery.number(BatteryManager.EXTRA_LEVEL, -1)
        val scale = battery.number(BatteryManager.EXTRA_SCALE, 0)
        return if (level >= 0 && scale > 0) 100 * level / scale else null
    }

    private fun thermalStatus(): Int =
        if (Build.VERSION.SDK_INT < Build.VERSION_CODES.Q) 0
        else context.getSystemService(PowerManager::class.java)!!.currentThermalStatus

    /** Asked for at most every ten seconds: the system answers no more often, and training looks at every step. */
    @Synchronized
    private fun thermalHeadroom(): Float? {
        if (Build.VERSION.SDK_INT < Build.VERSION_CODES.R) return null
        val now = SystemClock.elapsedRealtime()
        if (headroomAt == 0L || now - headroomAt >= HEADROOM_MILLISECONDS) {
            headroomAt = now
            headroom = context.getSystemService(PowerManager::class.java)!!.getThermalHeadroom(HEADROOM_SECONDS).takeUnless { it.isNaN() }
        }
        return headroom
    }

    private fun Intent?.number(name: String, missing: Int): Int = this?.getIntExtra(name, missing) ?: missing

    private var headroom: Float? = null
    private var headroomAt = 0L

    private companion object {
        const val HEADROOM_MILLISECONDS = 10_000L
        const val HEADROOM_SECONDS = 10
        const val MEGABYTE = 1_000_000L
    }
}
