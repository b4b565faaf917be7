package dev.toolkit.trainer.policy

import android.app.ActivityManager
import android.content.Context
import android.content.Intent
import android.content.IntentFilter
import android.os.BatteryManager
import android.os.Build
import android.os.PowerManager

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
            freeMb = memory.availMem / MEGABYTE,
            totalMb = memory.totalMem / MEGABYTE,
            lowMemory = memory.lowMemory,
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

    private fun Intent?.number(name: String, missing: Int): Int = this?.getIntExtra(name, missing) ?: missing

    private companion object {
        const val MEGABYTE = 1_000_000L
    }
}
