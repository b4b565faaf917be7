package dev.toolkit.trainer.service

import android.app.ActivityManager
import android.app.ApplicationExitInfo
import android.content.Context
import android.os.Build
import dev.toolkit.trainer.R
import dev.toolkit.trainer.Words
import kotlin.math.abs

/** How the app's processes ended, the last one first, as Android 11 and newer remember it. */
class ExitReasons(private val context: Context) {
    private fun all(): List<ApplicationExitInfo> =
        if (Build.VERSION.SDK_INT < Build.VERSION_CODES.R) emptyList()
        else context.getSystemService(ActivityManager::class.java)!!.getHistoricalProcessExitReasons(null, 0, 0)

    /**
     * Whether the user ended it on purpose after [since], in milliseconds of the clock, as by Stop in the list of active apps;
     * then nothing goes on by itself. Android 11 to 13 say the same of an app that was updated, which nobody meant to end.
     */
    fun byUser(since: Long): Boolean {
        if (Build.VERSION.SDK_INT < Build.VERSION_CODES.R) return false
        val updated = context.packageManager.getPackageInfo(context.packageName, 0).lastUpdateTime
        return all().any {
            it.reason == ApplicationExitInfo.REASON_USER_REQUESTED && it.timestamp > since && abs(it.timestamp - updated) > UPDATE_MILLISECONDS
        }
    }

    fun words(): String {
        val info = all().firstOrNull() ?: return unknown
        if (Build.VERSION.SDK_INT < Build.VERSION_CODES.R) return unknown
        return when (info.reason) {
            ApplicationExitInfo.REASON_LOW_MEMORY -> Words.of(R.string.exit_memory)
            ApplicationExitInfo.REASON_CRASH, ApplicationExitInfo.REASON_CRASH_NATIVE -> Words.of(R.string.exit_crash)
            ApplicationExitInfo.REASON_ANR -> Words.of(R.string.exit_anr)
            ApplicationExitInfo.REASON_EXCESSIVE_RESOURCE_USAGE -> Words.of(R.string.exit_resources)
            ApplicationExitInfo.REASON_SIGNALED -> Words.of(R.string.exit_signal, info.status)
            ApplicationExitInfo.REASON_USER_REQUESTED -> Words.of(R.string.exit_user)
            else -> unknown
        }
    }

    private companion object {
        /** Between the end of the old version and the time that the new one has, at most. */
        const val UPDATE_MILLISECONDS = 120_000L
        val unknown get() = Words.of(R.string.exit_unknown)
    }
}
