package dev.toolkit.trainer.service

import android.app.Service
import android.content.BroadcastReceiver
import android.content.ComponentCallbacks2
import android.content.Context
import android.content.Intent
import android.content.IntentFilter
import android.content.pm.ServiceInfo
import android.net.Uri
import android.os.Build
import android.os.IBinder
import android.util.Log
import dev.toolkit.trainer.R
import dev.toolkit.trainer.TrainerApp
import dev.toolkit.trainer.policy.Hold
import dev.toolkit.trainer.store.AppException
import dev.toolkit.trainer.store.Run
import dev.toolkit.trainer.store.RunState

/**
 * Keeps the process in the foreground while a run is active, also while it waits for the charger.
 *
 * Its type is `specialUse`: `dataSync` and `mediaProcessing` end after six hours a day on Android 15, and
 * training on the phone is none of the other types. The processor is kept awake only while a step runs.
 */
class TrainingService : Service() {
    private val app by lazy { TrainerApp.of(this) }
    private val notifications by lazy { Notifications(this) }
    private val throttle = Throttle(REFRESH_MILLISECONDS) { refresh() }
    private val onChange: () -> Unit = { throttle.request() }
    private val wakefulness by lazy { Wakefulness(this, RestartReceiver.alarm(this)) }
    private var lastStart = 0
    private var inForeground = false

    /** Whether the system did not let the last start in: what ran is told as interrupted, and that stays the last word. */
    private var refused = false

    /** Words that are still being acted upon; the service stays for them. */
    private var acting = 0

    @Volatile private var running: String? = null
    private val powerChanges = object : BroadcastReceiver() {
        override fun onReceive(context: Context, intent: Intent) = app.controller.recheck()
    }

    override fun onCreate() {
        super.onCreate()
        // Protected broadcasts: only the system can send them.
        val filter = IntentFilter(Intent.ACTION_POWER_CONNECTED)
        filter.addAction(Intent.ACTION_POWER_DISCONNECTED)
        filter.addAction(Intent.ACTION_BATTERY_CHANGED)
        registerReceiver(powerChanges, filter)
        app.controller.addListener(onChange)
    }

    override fun onStartCommand(intent: Intent?, flags: Int, startId: Int): Int {
        lastStart = startId
        // The system wants this within seconds of the start, whatever comes of it.
        refused = !enterForeground()
        if (refused) {
            stayOut()
            return START_NOT_STICKY
        }
        val action = intent?.action
        val name = intent?.getStringExtra(RUN)
        // At once: the screen shows that it was heard.
        if (action == PAUSE) ifActive(name) { app.controller.pause() }
        if (action == STOP) ifActive(name) { app.controller.stop() }
        if (action == GO_ON) ifActive(name) { app.controller.goOn() }
        val anyway = if (intent?.getBooleanExtra(AT_ONCE, false) == true) SOON else emptySet()
        acting++
        app.background.run({ act(action, name, anyway) }) {
            acting--
            refresh()
        }
        return START_STICKY
    }

    private fun act(action: String?, name: String?, anyway: Set<Hold>) = when (action) {
        START -> attempt(name) { app.controller.start(name.orEmpty(), anyway) }
        // Null: the system restarted us after it had ended the process.
        null, CONTINUE -> continueInterrupted()
        else -> Unit
    }

    private fun continueInterrupted() {
        if (app.controller.active != null) return
        val run = app.controller.interrupted().firstOrNull() ?: return
        // What the user ended on purpose goes on when the user says so.
        if (app.exits.byUser(run.touched)) notifications.interrupted(run) else attempt(run.name) { app.controller.continueInterrupted(run) }
    }

    private fun attempt(name: String?, begin: () -> Run) {
        try {
            val run = begin()
            running = run.name
            notifications.cancelEnded(run.name)
            NightJob.schedule(this)
        } catch (error: AppException) {
            Log.w(TAG, error.message, error)
            app.controller.refuse(Refusal(name, error.message.orEmpty(), blocker = error.blocker))
            val run = name?.let { app.runs.find(it) } ?: return
            if (run.name == app.controller.active?.name) return
            // It stays as it is: soon after the phone started, storage with its model may not be there yet.
            notifications.ended(run, R.string.run_not_started, error.message.orEmpty(), canResume = run.state != RunState.COMPLETED)
        }
    }

    /** A word that was meant for a run that has ended meanwhile must not reach the next one. */
    private fun ifActive(name: String?, act: () -> Unit) {
        val active = app.controller.active
        if (active != null && (name == null || name == active.name)) act()
    }

    private fun refresh() {
        if (refused) return
        val active = app.controller.active
        if (active == null) {
            if (acting == 0) end()
            return
        }
        running = active.name
        if (active.isWaiting) wakefulness.rest() else wakefulness.train()
        notifications.update(active)
    }

    private fun end() {
        val name = running
        running = null
        if (name == null) {
            leave()
            return
        }
        acting++
        app.background.run({
            app.runs.find(name)?.let(notifications::announceEnd)
            if (app.controller.interrupted().isEmpty()) NightJob.cancel(this)
        }) {
            acting--
            refresh()
        }
    }

    /** False where the system does not let a restarted service in. */
    private fun enterForeground(): Boolean {
        if (inForeground) return true
        val notification = notifications.ongoing(app.controller.active)
        try {
            if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.UPSIDE_DOWN_CAKE) {
                startForeground(Notifications.ONGOING_ID, notification, ServiceInfo.FOREGROUND_SERVICE_TYPE_SPECIAL_USE)
            } else {
                startForeground(Notifications.ONGOING_ID, notification)
            }
            inForeground = true
        } catch (error: IllegalStateException) {
            Log.w(TAG, "not allowed in the foreground", error)
        }
        return inForeground
    }

    /** A run must not train on in a process that the system may end at any time: it is saved, and waits for the user. */
    private fun stayOut() {
        val active = app.controller.active?.name
        app.controller.pause()
        stopSelf(lastStart)
        app.background.run({
            val run = if (active != null) app.runs.find(active) else app.controller.interrupted().firstOrNull()
            run?.let(notifications::interrupted)
        })
    }

    private fun leave() {
        wakefulness.end()
        stopForeground(STOP_FOREGROUND_REMOVE)
        inForeground = false
        // By number: a start that is on its way here must not be lost.
        stopSelf(lastStart)
    }

    override fun onTrimMemory(level: Int) {
        super.onTrimMemory(level)
        if (isUrgent(level)) app.controller.releaseMemory() else app.controller.recheck()
    }

    // Android 14 and newer no longer send these; there the policy's own look at the memory has to do.
    @Suppress("DEPRECATION")
    private fun isUrgent(level: Int) =
        level == ComponentCallbacks2.TRIM_MEMORY_RUNNING_CRITICAL || level >= ComponentCallbacks2.TRIM_MEMORY_MODERATE

    override fun onDestroy() {
        app.controller.removeListener(onChange)
        throttle.cancel()
        unregisterReceiver(powerChanges)
        wakefulness.end()
        super.onDestroy()
    }

    override fun onBind(intent: Intent?): IBinder? = null

    companion object {
        const val START = "dev.toolkit.trainer.action.START"
        const val PAUSE = "dev.toolkit.trainer.action.PAUSE"
        const val STOP = "dev.toolkit.trainer.action.STOP"
        const val GO_ON = "dev.toolkit.trainer.action.GO_ON"
        const val CONTINUE = "dev.toolkit.trainer.action.CONTINUE"

        /** Of the alarm, which [RestartReceiver] takes. */
        const val LOOK = "dev.toolkit.trainer.action.LOOK"
        const val RUN = "run"
        private const val AT_ONCE = "now"
        private const val TAG = "toolkit"

        /** What a run of a minute, whose user looks on, need not wait for. */
        private val SOON = setOf(Hold.CHARGER, Hold.HOURS)

        // The system drops what an app posts more often than five times a second; people read less.
        private const val REFRESH_MILLISECONDS = 1000L

        /** The address keeps intents of two runs apart, which extras do not. */
        fun intent(context: Context, action: String, run: String? = null): Intent =
            Intent(context, TrainingService::class.java).setAction(action).setData(Uri.fromParts("run", run.orEmpty(), null)).putExtra(RUN, run)

        fun start(context: Context, action: String, run: String? = null) {
            context.startForegroundService(intent(context, action, run))
        }

        /** Starts a run without charger and hours. */
        fun startAtOnce(context: Context, run: String) {
            context.startForegroundService(intent(context, START, run).putExtra(AT_ONCE, true))
        }
    }
}
