package dev.toolkit.trainer.policy

import android.content.Context
import android.content.SharedPreferences

/** Keeps [PolicySettings] in the app's preferences. */
class PolicyStore(context: Context) {
    private val preferences: SharedPreferences = context.getSharedPreferences("policy", Context.MODE_PRIVATE)

    fun read(): PolicySettings {
        val usual = PolicySettings()
        return PolicySettings(
            preferences.getBoolean("only_while_charging", usual.onlyWhileCharging),
            preferences.getInt("minimum_battery", usual.minimumBattery),
            preferences.getInt("thermal_limit", usual.thermalLimit),
            preferences.getInt("minimum_free_mb", usual.minimumFreeMb),
            preferences.getInt("threads", usual.threads),
            preferences.getBoolean("continue_after_restart", usual.continueAfterRestart),
            preferences.getInt("hours_from", -1).takeIf { it >= 0 }?.let { Hours(it, preferences.getInt("hours_to", 0)) },
        )
    }

    fun write(settings: PolicySettings) {
        preferences.edit()
            .putBoolean("only_while_charging", settings.onlyWhileCharging)
            .putInt("minimum_battery", settings.minimumBattery)
            .putInt("thermal_limit", settings.thermalLimit)
            .putInt("minimum_free_mb", settings.minimumFreeMb)
            .putInt("threads", settings.threads)
            .putBoolean("continue_after_restart", settings.continueAfterRestart)
            .putInt("hours_from", settings.hours?.from ?: -1)
            .putInt("hours_to", settings.hours?.to ?: 0)
            .apply()
    }
}
