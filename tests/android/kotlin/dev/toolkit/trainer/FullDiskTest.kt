package dev.toolkit.trainer

import android.app.AlarmManager
import android.app.Notification
import android.app.NotificationManager
import android.content.Intent
import android.provider.Settings
import android.widget.Button
import dev.toolkit.trainer.Fixtures.await
import dev.toolkit.trainer.Pictures.languages
import dev.toolkit.trainer.Pictures.looks
import dev.toolkit.trainer.Pictures.text
import dev.toolkit.trainer.policy.Hold
import dev.toolkit.trainer.policy.PolicySettings
import dev.toolkit.trainer.service.Doing
import dev.toolkit.trainer.service.Notifications
import dev.toolkit.trainer.service.RestartReceiver
import dev.toolkit.trainer.service.TrainingService
import dev.toolkit.trainer.store.AppException
import dev.toolkit.trainer.store.RunState
import dev.toolkit.trainer.store.TextData
import dev.toolkit.trainer.ui.MainActivity
import dev.toolkit.trainer.ui.RunActivity
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNotNull
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.Shadows.shadowOf
import org.robolectric.shadows.ShadowPowerManager
import java.io.File
import java.util.Locale
import java.util.concurrent.atomic.AtomicBoolean

/** A phone whose storage is full: who trains waits and says so, who makes data is told, and nothing is lost. */
@RunWith(RobolectricTestRunner::class)
class FullDiskTest {
    @get:Rule val temporary = TemporaryFolder()

    private fun notification(app: TrainerApp) = shadowOf(app.getSystemService(NotificationManager::class.java))
        .getNotification(Notifications.ONGOING_ID)?.extras?.getCharSequence(Notification.EXTRA_TEXT).toString()

    @Test
    fun `a run that waits for room says so everywhere, and goes on by itself`() = FullDisk(temporary).use { disk ->
        val app = Fixtures.deploy(temporary)
        val service = Robolectric.buildService(TrainingService::class.java).create()
        disk.trainThrough(app) {
            val words = "the storage is full. Free some space, and it goes on by itself"
            await("the notification") { words in notification(app) }
            assertFalse("the phone may sleep", ShadowPowerManager.getLatestWakeLock().isHeld)
            val alarms = shadowOf(app.getSystemService(AlarmManager::class.java))
            alarms.fireAlarm(alarms.peekNextScheduledAlarm()!!)
            RestartReceiver().onReceive(app, Intent(TrainingService.LOOK))
            Fixtures.settle(app)
            assertNotNull("and is woken to look again", alarms.peekNextScheduledAlarm())
            val list = Robolectric.buildActivity(MainActivity::class.java).setup()
            await("the card") { text(list.get(), words) && text(list.get(), "since ") }
            val page = Robolectric.buildActivity(RunActivity::class.java, RunActivity.intent(app, "a")).setup()
            await("the page") { text(page.get(), words) && text(page.get(), "since ") }
            for (screen in listOf(list, page)) {
                assertFalse("no promise of an end", text(screen.get(), "done about"))
                val button = screen.get().requireViewById<Button>(R.id.go_on)
                assertTrue(button.isShown && button.text == "Manage storage")
                button.performClick()
                assertEquals(Settings.ACTION_INTERNAL_STORAGE_SETTINGS, shadowOf(screen.get()).nextStartedActivity.action)
                screen.close()
            }
            // Of the phone in both themes and with a large font, the tablet, German and right to left.
            for (look in looks.take(3) + languages) {
                Pictures.apply(look)
                val shown = app.getString(R.string.wait_storage)
                Pictures.take(look, "run-full", RunActivity::class.java, RunActivity.intent(app, "a")) { text(it, shown) }
                Pictures.take(look, "runs-full", MainActivity::class.java, null) { text(it, shown) }
            }
            Pictures.apply(looks[0])
            Locale.setDefault(Locale.US)
            assertThrows(AppException::class.java) { Fixtures.create(app, "b").also { app.runs.save(it.copy(reason = "x".repeat(300_000))) } }
            assertEquals("the record of the run is whole", RunState.RUNNING, app.runs.require("a").state)
            assertNoData(app, disk)
        }
        service.destroy()
        Unit
    }

    @Test
    fun `a run that waits for room is held by nothing, and paused or stopped as it is told`() = FullDisk(temporary).use { disk ->
        val app = Fixtures.deploy(temporary)
        disk.under(app)
        Fixtures.create(app, "a")
        val listed = Robolectric.buildActivity(MainActivity::class.java).setup()
        for ((state, end) in listOf(RunState.PAUSED to app.controller::pause, RunState.STOPPED to app.controller::stop)) {
            File(disk.folder, "filler").delete()
            disk.fill()
            app.controller.start("a")
            await("the full disk") { app.controller.active?.doing == Doing.FULL }
            disk.fillUp()
            Fixtures.power(plugged = false, level = 10, celsius = 50f)
            app.controller.recheck()
            app.controller.releaseMemory()
            Thread.sleep(300)
            assertEquals("nothing is computed", Doing.FULL, app.controller.active?.doing)
            Fixtures.power(plugged = true, level = 80)
            end()
            assertTrue(app.controller.join(30_000))
            val run = app.runs.require("a")
            assertEquals(run.reason, state to 0L, run.state to run.step)
            await("why it has no more steps") { text(listed.get(), "No space left on device") && text(listed.get(), "Free some space and try again.") }
            Notifications(app).announceEnd(run)
            val said = shadowOf(app.getSystemService(NotificationManager::class.java)).getNotification("a", 2).extras
            assertTrue("No space left on device" in said.getCharSequence(Notification.EXTRA_TEXT).toString())
        }
        listed.close()
        disk.makeRoom()
        app.controller.start("a")
        assertTrue(app.controller.join(30_000))
        assertEquals(RunState.COMPLETED to "", app.runs.require("a").run { state to reason })
        assertArrayEquals(Fixtures.referenceAdapter(), Fixtures.adapter(app.runs.require("a")))
    }

    @Test
    fun `a run that is held as its save finds no room waits, and goes on from what was saved`() = FullDisk(temporary).use { disk ->
        val app = Fixtures.deploy(temporary)
        disk.under(app)
        Fixtures.create(app, "a")
        disk.fill()
        val held = AtomicBoolean()
        app.controller.addListener {
            if (app.controller.active?.progress?.step == 2L && held.compareAndSet(false, true)) {
                app.policy.write(PolicySettings(minimumFreeMb = 0, minimumBattery = 90))
                app.controller.recheck()
            }
        }
        app.controller.start("a")
        await("the wait") { app.controller.active.let { it == null || it.doing == Doing.WAITING } }
        assertEquals(Hold.BATTERY, app.controller.active?.waiting?.hold)
        assertEquals("nothing was saved", 0L, app.controller.active!!.progress!!.step)
        await("the record") { app.runs.require("a").run { state == RunState.WAITING && step == 0L } }
        disk.makeRoom()
        app.policy.write(PolicySettings(minimumFreeMb = 0))
        app.controller.recheck()
        assertTrue(app.controller.join(30_000))
        assertEquals(RunState.COMPLETED, app.runs.require("a").state)
        assertArrayEquals(Fixtures.referenceAdapter(), Fixtures.adapter(app.runs.require("a")))
    }

    private fun assertNoData(app: TrainerApp, disk: FullDisk) {
        java.nio.file.Files.createSymbolicLink(app.folders.data.toPath(), disk.folder.toPath())
        val long = listOf("hello there, how are you? ".repeat(20_000))
        val error = assertThrows(AppException::class.java) { TextData(app.folders).make("mine", app.bundles.require("words"), long) }
        assertTrue(error.message, "Free some space" in error.message!! || "Schaffe Platz" in error.message!!)
        assertFalse("nothing half made is left", disk.folder.list()!!.any { it.startsWith("mine") })
    }
}
