package dev.toolkit.trainer.service

import android.app.ActivityManager
import android.app.ApplicationExitInfo
import android.content.Context
import android.os.Build

/** How the app's last process ended, as Android 11 and newer remember it. */
class ExitReasons(private val context: Context) {
    private fun last(): ApplicationExitInfo? =
        if (Build.VERSION.SDK_INT < Build.VERSION_CODES.R) null
        else context.getSystemService(ActivityManager::class.java)!!.getHistoricalProcessExitReasons(null, 0, 1).firstOrNull()

    /** Whether the user ended it on purpose, as by Stop in the list of active apps; then nothing goes on by itself. */
    fun byUser(): Boolean = last()?.let {
        Build.VERSION.SDK_INT >= Build.VERSION_CODES.R && it.reason == ApplicationExitInfo.REASON_USER_REQUESTED
    } ?: false

    fun words(): String {
        val info = last() ?: return UNKNOWN
        if (Build.VERSION.SDK_INT < Build.VERSION_CODES.R) return UNKNOWN
        return when (info.reason) {
            ApplicationExitInfo.REASON_LOW_MEMORY -> "the phone had too little memory"
            ApplicationExitInfo.REASON_CRASH, ApplicationExitInfo.REASON_CRASH_NATIVE -> "the app crashed"
            ApplicationExitInfo.REASON_ANR -> "the app did not answer"
            ApplicationExitInfo.REASON_EXCESSIVE_RESOURCE_USAGE -> "the system found it used too much"
            ApplicationExitInfo.REASON_SIGNALED -> "the system ended it with signal ${info.status}"
            ApplicationExitInfo.REASON_USER_REQUESTED -> "it was stopped by hand"
            else -> UNKNOWN
        }
    }

    private companion object {
        const val UNKNOWN = "the system does not say why"
    }
}
