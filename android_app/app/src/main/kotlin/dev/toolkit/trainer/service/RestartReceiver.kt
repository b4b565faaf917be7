package dev.toolkit.trainer.service

import android.app.PendingIntent
import android.content.BroadcastReceiver
import android.content.Context
import android.content.Intent
import dev.toolkit.trainer.TrainerApp

/**
 * Continues a run that a restart of the phone, an update of the app or a kill interrupted, and looks at the conditions of
 * one that waits. The alarm comes here and not to the service: where Android lets no service start, this can say so.
 */
class RestartReceiver : BroadcastReceiver() {
    override fun onReceive(context: Context, intent: Intent) {
        val app = TrainerApp.of(context)
        val restarted = when (intent.action) {
            Intent.ACTION_BOOT_COMPLETED, Intent.ACTION_MY_PACKAGE_REPLACED -> true
            TrainingService.LOOK -> false
            else -> return
        }
        if (!restarted) Wakefulness.stayAwakeToLook(context)
        // Null where nobody sent it, as in a test.
        val pending: PendingResult? = goAsync()
        app.background.run({
            val goesOn = !restarted || app.policy.read().continueAfterRestart
            when {
                app.controller.active != null -> look(app)
                goesOn -> Restart.attempt(context)
                // It outlives the restart of the phone, and would not ask.
                else -> NightJob.cancel(context)
            }
        }) { pending?.finish() }
    }

    private fun look(app: TrainerApp) {
        app.controller.recheck()
        if (app.controller.active?.isWaiting == true) Wakefulness.lookAgain(app)
    }

    companion object {
        fun alarm(context: Context): PendingIntent {
            val intent = Intent(context, RestartReceiver::class.java).setAction(TrainingService.LOOK)
            return PendingIntent.getBroadcast(context, 0, intent, PendingIntent.FLAG_IMMUTABLE or PendingIntent.FLAG_UPDATE_CURRENT)
        }
    }
}
