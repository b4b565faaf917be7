package dev.toolkit.trainer.service

import android.content.BroadcastReceiver
import android.content.Context
import android.content.Intent
import android.util.Log
import dev.toolkit.trainer.TrainerApp

/** Continues a run that a restart of the phone or an update of the app interrupted, if the settings say so. */
class BootReceiver : BroadcastReceiver() {
    override fun onReceive(context: Context, intent: Intent) {
        if (intent.action != Intent.ACTION_BOOT_COMPLETED && intent.action != Intent.ACTION_MY_PACKAGE_REPLACED) return
        val app = TrainerApp.of(context)
        if (app.policy.read().continueAfterRestart && !app.exits.byUser() && app.controller.interrupted().isNotEmpty()) {
            try {
                TrainingService.start(context, TrainingService.CONTINUE)
            } catch (error: IllegalStateException) {
                Log.w("toolkit", "not continued", error)
                val notifications = Notifications(app).also { it.createChannels() }
                app.controller.interrupted().firstOrNull()?.let(notifications::interrupted)
            }
        }
    }
}
