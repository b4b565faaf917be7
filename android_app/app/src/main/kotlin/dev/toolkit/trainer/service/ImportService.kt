package dev.toolkit.trainer.service

import android.app.Service
import android.content.Context
import android.content.Intent
import android.content.pm.ServiceInfo
import android.os.Build
import android.os.IBinder
import android.util.Log
import dev.toolkit.trainer.TrainerApp

/** Keeps the process in the foreground while a model is imported, whatever screen is looked at. */
class ImportService : Service() {
    private val importing by lazy { TrainerApp.of(this).importing }
    private val notifications by lazy { Notifications(this) }
    private val throttle = Throttle(REFRESH_MILLISECONDS) { refresh() }
    private val onChange: () -> Unit = { throttle.request() }

    override fun onCreate() {
        super.onCreate()
        importing.addListener(onChange)
    }

    override fun onStartCommand(intent: Intent?, flags: Int, startId: Int): Int {
        try {
            val notification = notifications.importing(importing.progress)
            if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.Q) {
                startForeground(Notifications.IMPORT_ID, notification, ServiceInfo.FOREGROUND_SERVICE_TYPE_DATA_SYNC)
            } else {
                startForeground(Notifications.IMPORT_ID, notification)
            }
        } catch (error: IllegalStateException) {
            Log.w("toolkit", "an import outside of the foreground", error)
        }
        if (intent?.action == CANCEL) importing.cancel()
        refresh()
        return START_NOT_STICKY
    }

    private fun refresh() {
        if (importing.errand.running) {
            notifications.updateImport(importing.progress)
            return
        }
        stopForeground(STOP_FOREGROUND_REMOVE)
        stopSelf()
    }

    /** Android 15 gives such services six hours a day. */
    override fun onTimeout(startId: Int, type: Int) {
        importing.cancel()
        stopSelf()
    }

    override fun onDestroy() {
        importing.removeListener(onChange)
        throttle.cancel()
        super.onDestroy()
    }

    override fun onBind(intent: Intent?): IBinder? = null

    companion object {
        const val CANCEL = "dev.toolkit.trainer.action.CANCEL_IMPORT"
        private const val REFRESH_MILLISECONDS = 1000L

        fun intent(context: Context, action: String?): Intent = Intent(context, ImportService::class.java).setAction(action)

        fun start(context: Context) {
            context.startForegroundService(intent(context, null))
        }
    }
}
