package dev.toolkit.trainer.service

import android.app.Notification
import android.app.NotificationChannel
import android.app.NotificationManager
import android.app.PendingIntent
import android.content.Context
import android.content.Intent
import android.graphics.drawable.Icon
import android.os.Build
import dev.toolkit.trainer.R
import dev.toolkit.trainer.store.Run
import dev.toolkit.trainer.ui.Numbers
import dev.toolkit.trainer.ui.RunActivity
import dev.toolkit.trainer.ui.RunText

/** What the status bar shows of a run. */
class Notifications(private val context: Context) {
    private val manager = context.getSystemService(NotificationManager::class.java)!!

    fun createChannels() {
        val training = NotificationChannel(TRAINING, context.getString(R.string.channel_training), NotificationManager.IMPORTANCE_LOW)
        training.setShowBadge(false)
        val results = NotificationChannel(RESULTS, context.getString(R.string.channel_results), NotificationManager.IMPORTANCE_DEFAULT)
        manager.createNotificationChannels(listOf(training, results))
    }

    /** Of the foreground service: progress of the active run with its actions. */
    fun ongoing(active: ActiveRun?): Notification {
        val builder = builder(TRAINING).setOngoing(true).setCategory(Notification.CATEGORY_PROGRESS)
            .setContentTitle(active?.name ?: context.getString(R.string.starting))
        // Pause and stop are needed at once, not after the ten seconds that Android 12 holds such notifications back.
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.S) builder.setForegroundServiceBehavior(Notification.FOREGROUND_SERVICE_IMMEDIATE)
        if (active == null) return builder.build()
        builder.setContentText(text(active)).setContentIntent(open(active.name))
        val progress = active.progress
        when {
            active.doing == Doing.OPENING || active.isEnding -> builder.setProgress(0, 0, true)
            progress != null -> builder.setProgress(progress.steps.toInt(), progress.step.toInt(), false)
        }
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

    fun update(active: ActiveRun?) = manager.notify(ONGOING_ID, ongoing(active))

    fun cancelEnded(name: String) = manager.cancel(name, ENDED_ID)

    private fun text(active: ActiveRun): String = when (active.doing) {
        Doing.OPENING -> context.getString(R.string.opening)
        Doing.SAVING -> context.getString(R.string.saving)
        Doing.ENDING -> RunText.ending(context, active)
        Doing.WAITING -> active.waiting?.text.orEmpty()
        Doing.TRAINING -> active.progress?.takeIf { it.step > 0 }?.let {
            context.getString(R.string.step_and_loss, it.step, it.steps, Numbers.loss(it.loss))
        } ?: context.getString(R.string.first_step)
    }

    private fun builder(channel: String) = Notification.Builder(context, channel)
        .setSmallIcon(R.drawable.ic_training).setColor(context.getColor(R.color.accent))
        .setOnlyAlertOnce(true).setVisibility(Notification.VISIBILITY_PRIVATE)

    private fun open(name: String): PendingIntent = PendingIntent.getActivity(
        context, name.hashCode(), RunActivity.intent(context, name).addFlags(Intent.FLAG_ACTIVITY_NEW_TASK),
        PendingIntent.FLAG_IMMUTABLE or PendingIntent.FLAG_UPDATE_CURRENT,
    )

    private fun action(icon: Int, label: Int, what: String, name: String): Notification.Action {
        val intent = TrainingService.intent(context, what, name)
        val flags = PendingIntent.FLAG_IMMUTABLE or PendingIntent.FLAG_UPDATE_CURRENT
        val pending = PendingIntent.getForegroundService(context, (what + name).hashCode(), intent, flags)
        return Notification.Action.Builder(Icon.createWithResource(context, icon), context.getString(label), pending).build()
    }

    companion object {
        const val ONGOING_ID = 1
        private const val ENDED_ID = 2
        private const val TRAINING = "training"
        private const val RESULTS = "results"
    }
}
