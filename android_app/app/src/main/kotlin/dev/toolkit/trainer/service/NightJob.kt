package dev.toolkit.trainer.service

import android.app.job.JobInfo
import android.app.job.JobParameters
import android.app.job.JobScheduler
import android.app.job.JobService
import android.content.ComponentName
import android.content.Context
import dev.toolkit.trainer.TrainerApp

/**
 * The safety net of a night: as long as a run is going on, the system starts this every quarter of an hour on the charger,
 * also after it has ended the app, and a run that was interrupted goes on or its notification says how.
 */
class NightJob : JobService() {
    override fun onStartJob(parameters: JobParameters?): Boolean {
        val app = TrainerApp.of(this)
        app.background.run({
            if (app.controller.active != null) app.controller.recheck() else Restart.attempt(this)
            if (app.controller.active == null && app.controller.interrupted().isEmpty()) cancel(this)
        }) { jobFinished(parameters, false) }
        return true
    }

    override fun onStopJob(parameters: JobParameters?) = false

    companion object {
        private const val ID = 1

        fun schedule(context: Context) {
            val scheduler = context.getSystemService(JobScheduler::class.java)!!
            if (scheduler.getPendingJob(ID) != null) return
            val job = JobInfo.Builder(ID, ComponentName(context, NightJob::class.java)).setRequiresCharging(true)
                .setPeriodic(JobInfo.getMinPeriodMillis()).setPersisted(true)
            scheduler.schedule(job.build())
        }

        fun cancel(context: Context) = context.getSystemService(JobScheduler::class.java)!!.cancel(ID)
    }
}
