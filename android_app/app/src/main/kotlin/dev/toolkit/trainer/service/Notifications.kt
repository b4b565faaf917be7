package dev.toolkit.trainer.service

import android.app.Notification
import android.app.NotificationChannel
import android.app.NotificationManager
import android.app.PendingIntent
import android.app.TaskStackBuilder
import android.content.Context
import android.content.Intent
import android.graphics.drawable.Icon
import android.os.Build
import dev.toolkit.trainer.R
import dev.toolkit.trainer.store.Imported
import dev.toolkit.trainer.store.Run
import dev.toolkit.trainer.store.RunState
import dev.toolkit.trainer.ui.ImportActivity
import dev.toolkit.trainer.ui.Numbers
import dev.toolkit.trainer.ui.RunActivity
import dev.toolkit.trainer.ui.RunText

/** What the status bar shows of a run. */
class Notifications(private val context: Context) {
    private val manager = context.getSystemService(NotificationManager::class.java)!!

    init {
        createChannels()
    }

    private fun createChannels() {
        val training = NotificationChannel(TRAINING, context.getString(R.string.channel_training), NotificationManager.IMPORTANCE_LOW)
        training.setShowBadge(false)
        val results = NotificationChannel(RESULTS, context.getString(R.string.channel_results), NotificationManager.IMPORTANCE_DEFAULT)
        val imports = NotificationChannel(IMPORTS, context.getString(R.string.channel_imports), NotificationManager.IMPORTANCE_LOW)
        manager.createNotificationChannels(listOf(training, results, imports))
    }

    /** Of the foreground service: progress of the active run with its actions. */
    fun ongoing(active: ActiveRun?): Notification {
        val builder = builder(TRAINING).setOngoing(true).setCategory(Notification.CATEGORY_PROGRESS)
            .setContentTitle(active?.name ?: context.getString(R.string.starting))
        // Pause and stop are needed at once, not after the ten seconds that Android 12 holds such notifications back.
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.S) builder.setForegroundServiceBehavior(Notification.FOREGROUND_SERVICE_IMMEDIATE)
        if (active == null) return builder.build()
        builder.setContentText(text(active)).setContentIntent(open(active.name))
        if (active.isWaiting) builder.setSmallIcon(R.drawable.ic_waiting)
        val progress = active.progress
        when {
            active.doing == Doing.OPENING || active.isEnding -> builder.setProgress(0, 0, true)
            progress != null -> builder.setProgress(progress.steps.toInt(), progress.step.toInt(), false)
        }
        if (active.canGoOn) builder.addAction(action(R.drawable.ic_play, RunText.goOn(active), TrainingService.GO_ON, active.name))
        builder.addAction(action(R.drawable.ic_pause, R.string.pause, TrainingService.PAUSE, active.name))
        builder.addAction(action(R.drawable.ic_stop, R.string.stop, TrainingService.STOP, active.name))
        return builder.build()
    }

    /** Once a run has ended; a paused one can be continued from here. */
    fun ended(run: Run, title: Int, detail: String, canResume: Boolean) {
        val builder = builder(RESULTS).setContentTitle(context.getString(title, run.name)).setContentText(detail)
            .setStyle(Notification.BigTextStyle().bigText(detail)).setContentIntent(open(run.name)).setAutoCancel(true)
        if (canResume) builder.addAction(action(R.drawable.ic_play, R.string.resume, TrainingService.START, run.name))
        manager.notify(run.name, ENDED_ID, builder.build())
    }

    /** Where Android does not let the service start without the user: resuming from here is the user. */
    fun interrupted(run: Run) = ended(run, R.string.run_interrupted, context.getString(R.string.run_interrupted_how), canResume = true)

    /** A run has ended and nobody may have looked. */
    fun announceEnd(run: Run) {
        val at = context.getString(R.string.at_step, Numbers.count(run.step), Numbers.count(run.settings.steps.toLong()))
        val unsaved = RunText.reason(context, run).takeIf { RunText.hasReason(run) }
        when (run.state) {
            RunState.COMPLETED -> {
                val outcome = run.outcome?.let { RunText.outcome(context, it) } ?: context.getString(R.string.adapter_saved)
                ended(run, R.string.run_completed, outcome, false)
            }
            RunState.PAUSED -> ended(run, R.string.run_paused, unsaved ?: at, true)
            RunState.STOPPED -> ended(run, R.string.run_stopped, unsaved ?: at, true)
            RunState.FAILED -> ended(run, R.string.run_failed, RunText.reason(context, run), false)
            RunState.RUNNING, RunState.WAITING -> Unit
        }
    }

    /** Shows what the run does now, if that reads otherwise than before. */
    fun update(active: ActiveRun) {
        val words = listOf(active.name, active.doing, text(active), active.progress?.step.takeIf { active.doing == Doing.TRAINING })
        if (words == shown) return
        shown = words
        manager.notify(ONGOING_ID, ongoing(active))
    }

    private var shown: List<Any?>? = null

    /** Of an import's foreground service. */
    fun importing(progress: Imported?): Notification {
        val cancel = PendingIntent.getForegroundService(context, 0, ImportService.intent(context, ImportService.CANCEL), PendingIntent.FLAG_IMMUTABLE)
        val builder = builder(IMPORTS).setOngoing(true).setCategory(Notification.CATEGORY_PROGRESS)
            .setContentTitle(context.getString(R.string.import_model)).setContentIntent(openImport())
            .addAction(Notification.Action.Builder(Icon.createWithResource(context, R.drawable.ic_stop), context.getString(R.string.cancel), cancel).build())
        if (progress == null || progress.total == 0L) builder.setProgress(0, 0, true)
        else builder.setProgress(PERMILLE, (PERMILLE * progress.done / progress.total).toInt(), false)
        return builder.build()
    }

    fun updateImport(progress: Imported?) = manager.notify(IMPORT_ID, importing(progress))

    /** An import is over and nobody looks. */
    fun imported(model: ImportedModel) {
        val title = model.name?.let { context.getString(R.string.import_done, it) } ?: context.getString(R.string.import_nothing)
        val detail = model.problem.orEmpty()
        val builder = builder(RESULTS).setContentTitle(title).setContentText(detail).setContentIntent(openImport()).setAutoCancel(true)
        manager.notify(IMPORTED_ID, builder.setStyle(Notification.BigTextStyle().bigText(detail)).build())
    }

    private fun openImport(): PendingIntent = TaskStackBuilder.create(context)
        .addNextIntentWithParentStack(Intent(context, ImportActivity::class.java))
        .getPendingIntent(0, PendingIntent.FLAG_IMMUTABLE or PendingIntent.FLAG_UPDATE_CURRENT)!!

    fun cancelEnded(name: String) = manager.cancel(name, ENDED_ID)

    private fun text(active: ActiveRun): String = when (active.doing) {
        Doing.OPENING -> context.getString(R.string.opening)
        Doing.SAVING -> context.getString(R.string.saving)
        Doing.ENDING -> context.getString(R.string.ending)
        Doing.FULL -> context.getString(R.string.wait_storage)
        Doing.WAITING -> active.waiting?.text.orEmpty()
        Doing.TRAINING -> if ((active.progress?.step ?: 0) > 0) RunText.ahead(context, active).orEmpty() else context.getString(R.string.first_step)
    }

    private fun builder(channel: String) = Notification.Builder(context, channel)
        .setSmallIcon(R.drawable.ic_training).setColor(context.getColor(R.color.accent))
        .setOnlyAlertOnce(true).setVisibility(Notification.VISIBILITY_PRIVATE)

    /** The run's page with the first screen behind it. */
    private fun open(name: String): PendingIntent = TaskStackBuilder.create(context)
        .addNextIntentWithParentStack(RunActivity.intent(context, name))
        .getPendingIntent(0, PendingIntent.FLAG_IMMUTABLE or PendingIntent.FLAG_UPDATE_CURRENT)!!

    private fun action(icon: Int, label: Int, what: String, name: String): Notification.Action {
        val intent = TrainingService.intent(context, what, name)
        val flags = PendingIntent.FLAG_IMMUTABLE or PendingIntent.FLAG_UPDATE_CURRENT
        val pending = PendingIntent.getForegroundService(context, 0, intent, flags)
        return Notification.Action.Builder(Icon.createWithResource(context, icon), context.getString(label), pending).build()
    }

    companion object {
        const val ONGOING_ID = 1
        private const val ENDED_ID = 2
        const val IMPORT_ID = 3
        private const val IMPORTED_ID = 4
        private const val PERMILLE = 1000
        private const val TRAINING = "training"
        private const val RESULTS = "results"
        private const val IMPORTS = "imports"
    }
}
