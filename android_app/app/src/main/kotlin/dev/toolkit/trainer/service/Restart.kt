package dev.toolkit.trainer.service

import android.content.Context
import android.util.Log
import dev.toolkit.trainer.TrainerApp

/** Brings an interrupted run back, or tells the user where Android does not allow it. Not for the main thread. */
object Restart {
    fun attempt(context: Context) {
        val app = TrainerApp.of(context)
        if (app.controller.active != null) return
        val run = app.controller.interrupted().firstOrNull() ?: return
        // What the user ended on purpose goes on when the user says so.
        if (app.exits.byUser(run.touched)) {
            Notifications(app).interrupted(run)
            NightJob.cancel(context)
            return
        }
        try {
            TrainingService.start(context, TrainingService.CONTINUE)
        } catch (error: IllegalStateException) {
            Log.w("toolkit", "not continued", error)
            Notifications(app).interrupted(run)
        }
    }
}
