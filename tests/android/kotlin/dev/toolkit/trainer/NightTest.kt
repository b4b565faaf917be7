package dev.toolkit.trainer

import android.Manifest
import android.app.ActivityManager
import android.app.ApplicationExitInfo
import android.app.NotificationManager
import android.content.Intent
import android.os.PowerManager
import android.provider.Settings
import android.view.View
import dev.toolkit.trainer.Fixtures.await
import dev.toolkit.trainer.service.Notifications
import dev.toolkit.trainer.service.RestartReceiver
import dev.toolkit.trainer.service.TrainingService
import dev.toolkit.trainer.service.Wakefulness
import dev.toolkit.trainer.store.AppFolders
import dev.toolkit.trainer.store.RunState
import dev.toolkit.trainer.ui.AskActivity
import dev.toolkit.trainer.ui.ImportActivity
import dev.toolkit.trainer.ui.MainActivity
import dev.toolkit.trainer.ui.NewRunActivity
import dev.toolkit.trainer.ui.RunActivity
import dev.toolkit.trainer.ui.SettingsActivity
import dev.toolkit.trainer.ui.TextActivity
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNotNull
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.Shadows.shadowOf
import org.robolectric.shadows.ShadowDialog
import org.robolectric.shadows.ShadowActivityManager
import org.robolectric.shadows.ShadowPowerManager
import java.io.File

/** What goes wrong in a night: kills, storage that comes late, taps by half asleep people. */
@RunWith(RobolectricTestRunner::class)
class NightTest : ServiceCase() {
    private fun killed(attempts: Int = 0) = app.runs.save(app.runs.require("a").copy(state = RunState.RUNNING, attempts = attempts))

    /** As long ago as is said, in minutes; a second from now, for a file's time may be rounded up. */
    private fun ended(reason: Int, minutes: Int = 0) = shadowOf(app.getSystemService(ActivityManager::class.java)).addApplicationExitInfo(
        ShadowActivityManager.ApplicationExitInfoBuilder.newBuilder().setProcessName("dev.toolkit.trainer").setPid(1)
            .setReason(reason).setTimestamp(System.currentTimeMillis() + 1000 - minutes * 60_000L).build(),
    )

    private fun left() = shadowOf(app.getSystemService(NotificationManager::class.java)).getNotification("a", 2)

    @Test
    fun `a run that ends its process again and again is not tried for ever`() {
        ended(ApplicationExitInfo.REASON_LOW_MEMORY)
        app.controller.continueInterrupted(killed(attempts = 2))
        assertEquals(3, app.runs.require("a").attempts)
        app.controller.pause()
        assertTrue(app.controller.join(30_000))
        assertEquals("it ended in its own way", 0, app.runs.require("a").attempts)

        killed(attempts = 3)
        start(null)
        assertNull(app.controller.active)
        val run = app.runs.require("a")
        assertEquals(RunState.FAILED, run.state)
        assertTrue(run.reason, "Run “a” was ended 3 times" in run.reason && "(the phone had too little memory)" in run.reason)
    }

    @Test
    fun `a run that saves again has its tries back`() {
        app.controller.continueInterrupted(killed(attempts = 2))
        await("saves") { app.runs.require("a").attempts == 0 }
        assertNotNull(app.controller.active)
    }

    @Test
    fun `what the user ended in the list of active apps stays ended`() {
        killed()
        ended(ApplicationExitInfo.REASON_USER_REQUESTED)
        // The system ended it once more since then.
        ended(ApplicationExitInfo.REASON_LOW_MEMORY)
        receive(app, Intent(Intent.ACTION_BOOT_COMPLETED))
        assertNull(shadowOf(app).nextStartedService)
        assertEquals("the user is told", "Resume", left().actions.single().title.toString())
        Notifications(app).cancelEnded("a")
        start(null)
        assertNull(app.controller.active)
        assertEquals("Resume", left().actions.single().title.toString())
    }

    @Test
    fun `what the user ended before the run was started does not keep it from going on`() {
        ended(ApplicationExitInfo.REASON_USER_REQUESTED, minutes = 60)
        killed()
        receive(app, Intent(Intent.ACTION_BOOT_COMPLETED))
        assertEquals(TrainingService.CONTINUE, shadowOf(app).nextStartedService.action)
    }

    @Test
    fun `an update of the app is nobody's wish to end the run`() {
        killed()
        // Android 11 to 13 say this of an app that was updated.
        ended(ApplicationExitInfo.REASON_USER_REQUESTED)
        val packages = shadowOf(app.packageManager)
        packages.getInternalMutablePackageInfo(app.packageName).lastUpdateTime = System.currentTimeMillis()
        receive(app, Intent(Intent.ACTION_MY_PACKAGE_REPLACED))
        assertEquals(TrainingService.CONTINUE, shadowOf(app).nextStartedService.action)
        packages.getInternalMutablePackageInfo(app.packageName).lastUpdateTime = System.currentTimeMillis() + 600_000
        receive(app, Intent(Intent.ACTION_MY_PACKAGE_REPLACED))
        assertNull("ten minutes before an update", shadowOf(app).nextStartedService)
    }

    @Test
    fun `storage that comes late does not fail a run for good`() {
        killed()
        val mounted = AppFolders.deployedOverride
        AppFolders.deployedOverride = temporary.newFolder("empty")
        start(null)
        assertNull(app.controller.active)
        assertEquals(RunState.RUNNING, app.runs.require("a").state)
        AppFolders.deployedOverride = mounted
        send(TrainingService.CONTINUE, "a")
        train()
    }

    @Test
    fun `a pause is answered at once, and a second tap does not stop`() {
        start(TrainingService.intent(app, TrainingService.START, "a"))
        train()
        app.controller.pause()
        val now = app.controller.active
        assertTrue("$now", now == null || now.isEnding)
        app.controller.stop()
        assertTrue(app.controller.join(30_000))
        assertEquals(RunState.PAUSED, app.runs.require("a").state)
    }

    @Test
    fun `a word for another run does not reach this one`() {
        start(TrainingService.intent(app, TrainingService.START, "a"))
        train()
        send(TrainingService.PAUSE, "short")
        send(TrainingService.STOP, "short")
        assertFalse(app.controller.active!!.isEnding)
    }

    @Test
    fun `the processor is kept awake through a step that takes long`() {
        val wakefulness = Wakefulness(app, RestartReceiver.alarm(app))
        wakefulness.train()
        val lock = ShadowPowerManager.getLatestWakeLock()
        repeat(6) {
            Fixtures.advance(6 * 60 * 1000)
            assertTrue("after ${6 * (it + 1)} minutes", lock.isHeld)
        }
        wakefulness.end()
        Fixtures.advance(6 * 60 * 1000)
        assertFalse(lock.isHeld)
    }

    @Test
    fun `what is offered for a whole night is offered once, and Settings keep it`() {
        Fixtures.create(app, "b").trace.writeText("")
        val notifications = shadowOf(app.getSystemService(NotificationManager::class.java))
        notifications.setNotificationsEnabled(false)
        val screen = Robolectric.buildActivity(MainActivity::class.java).setup()
        val page = screen.get()
        await("what is off") { Pictures.text(page, "Notifications are off") }
        page.requireViewById<View>(R.id.advice_follow).performClick()
        assertEquals(listOf(Manifest.permission.POST_NOTIFICATIONS), shadowOf(page).lastRequestedPermission.requestedPermissions.toList())
        // Denied, and tapped again: the system would not ask, its settings help.
        page.requireViewById<View>(R.id.advice_follow).performClick()
        assertEquals(Settings.ACTION_APP_NOTIFICATION_SETTINGS, shadowOf(page).nextStartedActivity.action)
        page.requireViewById<View>(R.id.advice_dismiss).performClick()
        assertTrue(Pictures.text(page, "go on at night"))
        page.requireViewById<View>(R.id.advice_follow).performClick()
        assertEquals(Settings.ACTION_REQUEST_IGNORE_BATTERY_OPTIMIZATIONS, shadowOf(page).nextStartedActivity.action)
        page.requireViewById<View>(R.id.advice_dismiss).performClick()
        screen.recreate()
        await("the list") { Pictures.text(screen.get(), "Runs") }
        assertFalse(screen.get().requireViewById<View>(R.id.advice).isShown)
        screen.close()
        val settings = Robolectric.buildActivity(SettingsActivity::class.java).setup()
        assertTrue(Pictures.text(settings.get(), "Notifications are off") && Pictures.text(settings.get(), "battery optimisation"))
        notifications.setNotificationsEnabled(true)
        shadowOf(app.getSystemService(PowerManager::class.java)).setIgnoringBatteryOptimizations(app.packageName, true)
        settings.pause().stop().start().resume()
        assertTrue(Pictures.text(settings.get(), "by itself at night"))
        assertFalse(settings.get().requireViewById<View>(R.id.nights_change).isShown)
        settings.close()
    }

    @Test
    fun `notifications of two runs lead to two pages, with the first screen behind them`() {
        // "Aa" and "BB" have one hash code.
        for (name in listOf("Aa", "BB")) Notifications(app).interrupted(Fixtures.create(app, name))
        val notifications = shadowOf(app.getSystemService(NotificationManager::class.java))
        val (first, second) = listOf("Aa", "BB").map { notifications.getNotification(it, 2) }
        assertEquals("Aa", shadowOf(first.actions[0].actionIntent).savedIntent.getStringExtra(TrainingService.RUN))
        assertEquals("BB", shadowOf(second.actions[0].actionIntent).savedIntent.getStringExtra(TrainingService.RUN))
        assertFalse(first.actions[0].actionIntent == second.actions[0].actionIntent)
        val pages = shadowOf(first.contentIntent).savedIntents.map { it.component!!.className }
        assertEquals(listOf(MainActivity::class.java.name, RunActivity::class.java.name), pages)
    }

    @Test
    fun `no screen and no service reads or writes files on the main thread`() {
        Fixtures.talker(app)
        val watch = FileWatch(app.folders.own, temporary.root)
        watch.use {
            for (type in listOf(MainActivity::class, NewRunActivity::class, TextActivity::class, ImportActivity::class, SettingsActivity::class)) {
                val screen = Robolectric.buildActivity(type.java).setup()
                Fixtures.advance(3000)
                screen.close()
            }
            val asked = Robolectric.buildActivity(AskActivity::class.java, AskActivity.intent(app, "talks")).setup()
            app.asking.ask("talks", "hello there")
            await("the answers") { !app.asking.errand.running }
            asked.close()
            val page = Robolectric.buildActivity(RunActivity::class.java, RunActivity.intent(app, "a")).setup()
            start(TrainingService.intent(app, TrainingService.START, "a"))
            train()
            receive(app, Intent(Intent.ACTION_BOOT_COMPLETED))
            send(TrainingService.PAUSE, "a")
            await("the pause") { app.controller.active == null }
            await("the page") { page.get().requireViewById<View>(R.id.primary).isShown }
            page.get().requireViewById<View>(R.id.versions).performClick()
            await("the saves") { ShadowDialog.getLatestDialog()?.isShowing == true }
            page.close()
        }
        assertEquals(emptyList<String>(), watch.found)
    }

    @Test
    fun `a run whose record is torn is listed and can be removed`() {
        val torn = File(app.folders.runs, "torn").also { it.mkdirs() }
        File(torn, "run.json").writeText("{\"version\": 1, \"bun")
        assertEquals(listOf("torn"), app.runs.damaged())
        val screen = Robolectric.buildActivity(MainActivity::class.java).setup()
        await("the damaged run") { Pictures.text(screen.get(), "torn") && Pictures.text(screen.get(), "cannot be read") }
        app.runs.delete("torn")
        assertTrue(app.runs.damaged().isEmpty())
        assertFalse(torn.exists())
        screen.close()
    }
}
