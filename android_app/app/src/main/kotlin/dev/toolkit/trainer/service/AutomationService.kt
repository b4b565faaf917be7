package dev.toolkit.trainer.service

import android.app.Service
import android.content.Intent
import android.content.pm.ServiceInfo
import android.os.Build
import android.os.IBinder
import android.util.Log
import dev.toolkit.trainer.TrainerApp
import dev.toolkit.trainer.store.AppException

/**
 * The entry of `toolkit train --app`, open only to holders of android.permission.DUMP: the adb shell.
 *
 *     am start-foreground-service -n dev.toolkit.trainer/.service.AutomationService \
 *         -a dev.toolkit.trainer.automation.TRAIN --es request 1 --es run a --es bundle b --es data d --es steps 50
 *
 * Answers with one line of JSON in the log, tag `toolkit.answer`.
 */
class AutomationService : Service() {
    override fun onStartCommand(intent: Intent?, flags: Int, startId: Int): Int {
        val app = TrainerApp.of(this)
        val notifications = Notifications(this)
        notifications.createChannels()
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.UPSIDE_DOWN_CAKE) {
            val type = ServiceInfo.FOREGROUND_SERVICE_TYPE_SPECIAL_USE
            startForeground(Notifications.ONGOING_ID, notifications.ongoing(app.controller.active), type)
        } else {
            startForeground(Notifications.ONGOING_ID, notifications.ongoing(app.controller.active))
        }
        if (intent != null) answer(app, intent)
        // The training service shows the same notification as its own; the system keeps it then.
        stopForeground(STOP_FOREGROUND_REMOVE)
        stopSelf(startId)
        return START_NOT_STICKY
    }

    private fun answer(app: TrainerApp, intent: Intent) {
        val request = intent.getStringExtra("request").orEmpty().filter { it.isLetterOrDigit() }.take(40)
        var name: String? = null
        val error = try {
            when (intent.action) {
                TRAIN -> {
                    app.controller.active?.let { throw AppException("Run “${it.name}” is active. Stop it first.") }
                    name = Automation(app.runs, app.bundles, app.data).prepare(intent).name
                    TrainingService.start(this, TrainingService.START, name)
                }
                STOP -> {
                    name = app.controller.active?.name ?: throw AppException("No run is active.")
                    TrainingService.start(this, TrainingService.PAUSE, name)
                }
                else -> throw AppException("This action is not known.")
            }
            null
        } catch (failure: AppException) {
            failure.message
        }
        lastAnswer = Automation.answer(request, error, name)
        Log.i(TAG, lastAnswer.orEmpty())
    }

    override fun onBind(intent: Intent?): IBinder? = null

    companion object {
        const val TRAIN = "dev.toolkit.trainer.automation.TRAIN"
        const val STOP = "dev.toolkit.trainer.automation.STOP"
        private const val TAG = "toolkit.answer"

        /** For tests. */
        @Volatile var lastAnswer: String? = null
    }
}
