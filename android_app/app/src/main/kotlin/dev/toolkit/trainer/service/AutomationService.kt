package dev.toolkit.trainer.service

import android.app.Service
import android.content.Intent
import android.os.IBinder
import android.util.Log
import dev.toolkit.trainer.R
import dev.toolkit.trainer.TrainerApp
import dev.toolkit.trainer.Words
import dev.toolkit.trainer.store.AppException
import dev.toolkit.trainer.store.RunExport

/**
 * The entry of `toolkit train --app` and `toolkit pull --app`, open only to holders of android.permission.DUMP: the adb shell.
 *
 *     am start-foreground-service -n dev.toolkit.trainer/.service.AutomationService \
 *         -a dev.toolkit.trainer.automation.TRAIN --es request 1 --es run a --es bundle b --es data d --es steps 50
 *
 * Answers with one line of JSON in the log, tag `toolkit.answer`.
 */
class AutomationService : Service() {
    override fun onStartCommand(intent: Intent?, flags: Int, startId: Int): Int {
        val app = TrainerApp.of(this)
        // Of the manifest's type: it takes a request or hands a run over, and the training service keeps what trains.
        startForeground(Notifications.ONGOING_ID, Notifications(this).ongoing(app.controller.active))
        app.background.run({ if (intent != null) answer(app, intent) }) { leave(startId) }
        return START_NOT_STICKY
    }

    private fun leave(startId: Int) {
        // The training service shows the same notification as its own; the system keeps it then.
        stopForeground(STOP_FOREGROUND_REMOVE)
        stopSelf(startId)
    }

    private fun answer(app: TrainerApp, intent: Intent) {
        val request = intent.getStringExtra("request").orEmpty().filter { it.isLetterOrDigit() }.take(40)
        var said = Said()
        var blocker: String? = null
        val error = try {
            said = act(app, intent)
            null
        } catch (failure: AppException) {
            blocker = failure.blocker
            failure.message
        } catch (failure: IllegalStateException) {
            Log.w("toolkit", "not started", failure)
            Words.of(R.string.no_background_start)
        }
        if (error != null) app.controller.refuse(Refusal(null, error, fromComputer = true, blocker))
        lastAnswer = Automation.answer(request, error, said.run, said.file)
        Log.i(TAG, lastAnswer.orEmpty())
    }

    private class Said(val run: String? = null, val file: String? = null)

    private fun act(app: TrainerApp, intent: Intent): Said = when (intent.action) {
        TRAIN -> {
            app.controller.active?.let { throw AppException(Words.of(R.string.run_active_desk, it.name), blocker = it.name) }
            val run = Automation(app.runs, app.bundles, app.data).prepare(intent)
            TrainingService.start(this, TrainingService.START, run.name)
            Said(run.name)
        }
        STOP -> {
            val name = app.controller.active?.name ?: throw AppException(Words.of(R.string.no_run_active))
            TrainingService.start(this, TrainingService.PAUSE, name)
            Said(name)
        }
        EXPORT -> {
            val run = app.runs.require(intent.getStringExtra("run"))
            if (!run.adapter.isFile) throw AppException(Words.of(R.string.no_adapter_yet, run.name))
            Said(run.name, RunExport(this).write(run, null))
        }
        else -> throw AppException(Words.of(R.string.unknown_action))
    }

    override fun onBind(intent: Intent?): IBinder? = null

    companion object {
        const val TRAIN = "dev.toolkit.trainer.automation.TRAIN"
        const val STOP = "dev.toolkit.trainer.automation.STOP"

        /** Writes a run to Downloads, for builds that `run-as` cannot look into. */
        const val EXPORT = "dev.toolkit.trainer.automation.EXPORT"
        private const val TAG = "toolkit.answer"

        /** For tests. */
        @Volatile var lastAnswer: String? = null
    }
}
