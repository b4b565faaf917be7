package dev.toolkit.trainer.service

import android.Manifest
import android.annotation.SuppressLint
import android.app.ActivityManager
import android.app.NotificationManager
import android.content.Context
import android.content.Intent
import android.content.pm.PackageManager
import android.net.Uri
import android.os.Build
import android.os.PowerManager
import android.provider.Settings

/** What stands between this app and a whole night, as far as the user can change it. */
class Reliability(private val context: Context) {
    /** Whether notifications arrive: progress, results, and the offer to resume. */
    val notified: Boolean get() = context.getSystemService(NotificationManager::class.java)!!.areNotificationsEnabled()

    /** Whether Android lets the app start again by itself after it was ended at night. */
    val unrestricted: Boolean
        get() = context.getSystemService(PowerManager::class.java)!!.isIgnoringBatteryOptimizations(context.packageName) &&
            !context.getSystemService(ActivityManager::class.java)!!.isBackgroundRestricted

    /** Whether the system still asks; after a no it does not, and only its settings help. */
    val needsPermission: Boolean
        get() = Build.VERSION.SDK_INT >= Build.VERSION_CODES.TIRAMISU &&
            context.checkSelfPermission(Manifest.permission.POST_NOTIFICATIONS) != PackageManager.PERMISSION_GRANTED

    fun notificationSettings(): Intent =
        Intent(Settings.ACTION_APP_NOTIFICATION_SETTINGS).putExtra(Settings.EXTRA_APP_PACKAGE, context.packageName)

    /** The system's own question. Training for hours on the charger is what its rules allow the exemption for. */
    @SuppressLint("BatteryLife")
    fun askForNights(): Intent =
        Intent(Settings.ACTION_REQUEST_IGNORE_BATTERY_OPTIMIZATIONS, Uri.fromParts("package", context.packageName, null))

    fun nightSettings(): Intent = Intent(Settings.ACTION_IGNORE_BATTERY_OPTIMIZATION_SETTINGS)
}
